//! The two sides that a scenario compares, and the folders in which it finds them.

use anyhow::Result;

use crate::client::Dialect;
use crate::servers::{Places, Server};

/// The things that every scenario needs.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The folders of the programs and of their files.
    pub places: Places,
    /// Says whether this is a smoke test: shorter and smaller, so that the numbers say little.
    pub quick: bool,
}

/// The two sides of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    Theirs,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Ours, Self::Theirs];

    /// Returns both sides, in an order that changes with each repetition.
    pub(super) fn alternating(repetition: usize) -> [Self; 2] {
        let mut both = Self::BOTH;
        both.rotate_left(repetition % 2);
        both
    }

    pub(super) fn dialect(self) -> Dialect {
        match self {
            Self::Ours => Dialect::Raw,
            Self::Theirs => Dialect::Official,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
        }
    }

    /// Starts a fresh server without any rooms.
    pub(super) fn start(self, bench: &Bench, scenario: &str) -> Result<Server> {
        match self {
            Self::Ours => {
                let state = bench.places.state_dir(scenario)?;
                bench.places.start_ours(&state)
            }
            Self::Theirs => bench.places.start_official(),
        }
    }
}

/// A value for each side.
#[derive(Debug, Default)]
pub(super) struct Pair<T> {
    pub(super) ours: T,
    pub(super) theirs: T,
}

impl<T> Pair<T> {
    pub(super) fn side(&mut self, side: Side) -> &mut T {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_take_turns() {
        assert_eq!(Side::alternating(0), [Side::Ours, Side::Theirs]);
        assert_eq!(Side::alternating(1), [Side::Theirs, Side::Ours]);
        assert_eq!(Side::alternating(2), [Side::Ours, Side::Theirs]);
    }
}
