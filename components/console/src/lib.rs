//! The component `console`: the page and its assets, as files that the manifest mounts at `/`.
//!
//! What to answer is decided in [`answer`], which knows no Spin and reads files through a function, so
//! that it can be tested on any machine; the trigger is wired in `entry`.

pub mod answer;
mod asset;
mod encoding;
#[cfg(target_arch = "wasm32")]
mod entry;
mod validator;
