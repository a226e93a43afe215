//! Rooms: the documents of projects.
//!
//! A room is an append-only log of Loro updates and one snapshot, both in SQL. Invariants:
//!
//! - An update that [`append`] reported as stored is on disk, and stays part of the room's state: a log
//!   row is deleted only when a stored snapshot holds all of it ([`compact`]).
//! - Revs are dense in a room and never reused.
//! - An update that a relay appends again in [`wire::REPEATED_WITHIN`] gets the rev of the first time, also
//!   if it has left the log (`receipts`).
//! - Every change is one SQL statement, and after each of them the room is whole: a process may be
//!   killed between any two, and any number of processes may run at once.
//! - An update that cannot be applied does not stop the room: it is moved to the quarantine table.
//!
//! Loro code runs in two places only. `update` decodes what comes in; `merge` applies the log to the
//! snapshot. Applying may trap and take down the whole Wasm instance, so callers ask for it through the
//! [`supervise::Merger`] port, which runs it in an instance of its own.

#![forbid(unsafe_code)]

mod append;
mod compact;
mod delete;
mod error;
mod head;
pub mod limits;
mod merge;
mod quarantine;
mod receipts;
mod rows;
mod state;
pub mod supervise;
mod update;

pub use append::{append, append_if};
pub use compact::{compact, is_due, sweep};
pub use delete::delete;
pub use error::RoomError;
pub use head::{head, head_sql, heads};
pub use merge::{Merged, merge};
pub use receipts::forget as forget_receipts;
pub use state::{snapshot, state, updates_after};
