//! The rooms, which are the documents of projects.
//!
//! A room is an append-only log of Loro updates and one snapshot, both in SQL. Invariants:
//!
//! - An update that [`append`] reported as stored is on disk, and stays part of the room's state: a log
//!   row is deleted only when a stored snapshot holds all of it ([`compact`]).
//! - A room can be joined whatever was written into it: if its state takes longer than a caller can wait,
//!   a blob, which needs no state, stands for the log until a merge has computed the state.
//! - Revs are dense in a room and never reused.
//! - An update that a relay appends again within [`wire::REPEATED_WITHIN`] gets the rev of the first time, also
//!   if it has left the log (`receipts`).
//! - The room is whole after every single SQL statement: a process may be killed between any two of them, and any
//!   number of processes may run at once.
//! - An update is refused as written under a peer id that is in use only if one of its operations differs from
//!   the stored one with the same id (`conflict`), or if it builds on another update of its request that does.
//! - An update that cannot be applied does not stop the room: it is moved to the quarantine table.
//!
//! Loro is used in three places. `update` decodes each incoming update by itself. `history` and `unread` put the log
//! together without computing a state, in linear time. `merge` computes the state, which may trap and take down the
//! whole Wasm instance, so callers ask for it through the [`supervise::Merger`] port, which runs it in an instance of
//! its own.

#![forbid(unsafe_code)]

mod append;
mod bisection;
mod blame;
mod compact;
mod conflict;
mod cost;
mod delete;
mod depth;
mod effect;
mod encoded;
mod error;
mod fold;
mod full;
mod gauges;
mod head;
mod history;
mod joined;
mod lease;
pub mod limits;
mod memory;
mod merge;
mod operations;
mod own_peer;
mod packed;
pub mod panics;
mod peers;
mod pending;
mod quarantine;
mod receipts;
mod refusal;
mod request;
mod rows;
mod stages;
mod state;
pub mod supervise;
mod unread;
mod update;
mod waiting;
mod way;

pub use append::{append, append_if, append_surely};
pub use compact::{compact, is_due, sweep, to_merge};
pub use delete::delete;
pub use error::RoomError;
pub use gauges::gauges;
pub use head::{head, head_sql, heads};
pub use joined::joined;
pub use memory::Memory;
pub use merge::{Merged, merge};
pub use own_peer::{and_own_peer, own_peer};
pub use quarantine::{
    Quarantined, adopt_quarantined, discard, discard_old, quarantine_counts, quarantined,
    quarantined_update, restore,
};
pub use receipts::forget as forget_receipts;
pub use state::{json, snapshot, state, updates_after};
pub use waiting::waiting;
