//! A message of the Redis trigger, as a handler gets it.

use crate::route::{Routes, Spec};

/// A message of the Redis trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

/// A message has no route, so it needs nothing that routes need.
impl Routes for Message {
    const SPECS: &'static [Spec] = &[];

    fn of(_: &Spec, _: Vec<String>) -> Option<Self> {
        None
    }
}
