//! The component `console`: the page, whose files are embedded in the component when it is compiled.
//!
//! `answer` decides what to answer. It knows no Spin, so that it can be tested on any machine; `entry` is the trigger.

mod answer;
#[cfg(test)]
mod describe;
mod encoding;
#[cfg(target_arch = "wasm32")]
mod entry;
mod page;

pub use answer::{SECURITY, answer};
pub use page::{File, PAGE, Representation};
