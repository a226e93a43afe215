//! Checks tasks: agents post them, test doubles of the services do them, and documents show them.

#![allow(clippy::unwrap_used)]

mod assets;
mod bucket;
mod cancelling;
mod crowd;
mod demo;
mod events;
mod fal;
mod gemini;
mod kling;
mod notifications;
mod places;
mod polling;
mod posting;
mod projecting;
mod reading;
mod retrying;
mod waiting;
mod webhooks;
