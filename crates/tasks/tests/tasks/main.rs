//! The tests of tasks in one program, so that what they share is compiled and linked once.

#![allow(clippy::unwrap_used)]

mod assets;
mod callbacks;
mod demo;
mod fake;
mod fal;
mod gemini;
mod keeping;
mod kling;
mod kling_models;
mod large_uploads;
mod patience;
mod pictures;
mod places;
mod posting;
mod projecting;
mod questions;
mod results;
mod retention;
mod services;
mod shop;
mod uploads;
