//! Checks rooms: how clients edit, join and come back, and what a room withstands.

#![allow(clippy::unwrap_used)]

mod durability;
mod editing;
mod joining;
mod memory;
mod merging;
mod misuse;
mod panics;
mod quarantine;
mod quotas;
mod rejoining;
mod saved;
