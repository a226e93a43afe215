//! The ways to compute a room's state, and which of them is the cheapest.

use loro::VersionVector;

use crate::{
    cost::{Cost, Newer},
    error::RoomError,
    history::History,
    rows::Rows,
};

/// A way to compute a state. The result is the same in each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The updates go into the snapshot one by one. That is linear if nothing is concurrent, except for the square of
    /// each single one.
    OneByOne,
    /// All that the state lacks goes into it as one update. Beside concurrent updates Loro takes the square of the whole
    /// length if they come one by one.
    AsOne,
    /// All that the state lacks goes into it in small parts. If nothing is concurrent, Loro takes the square of each part
    /// alone.
    InParts,
    /// The whole document goes into an empty one. That is linear if nothing in it is concurrent.
    Whole,
}

impl Way {
    /// All ways.
    pub(crate) const ALL: [Self; 4] = [Self::OneByOne, Self::AsOne, Self::InParts, Self::Whole];

    /// Estimates what this way costs; `None` if nothing bounds that, or if another way is the same. `history` was made of `rows`.
    ///
    /// # Errors
    /// If Loro cannot read the history.
    pub(crate) fn cost(self, rows: &Rows, history: &History) -> Result<Option<Cost>, RoomError> {
        let nothing = VersionVector::default();
        let base = match self {
            Self::OneByOne | Self::AsOne | Self::InParts => history.base(),
            Self::Whole => &nothing,
        };
        let newer = Newer::than(base, history.doc())?;
        let pairs = newer.pairs();
        Ok(match self {
            Self::OneByOne | Self::InParts if pairs > Cost::NONE => None,
            Self::OneByOne => {
                let imports = imports(rows, history);
                Some(one_by_one(rows).min(newer.runs()).max(imports))
            }
            Self::InParts => Some(in_parts(&newer, history)),
            Self::Whole if history.base().is_empty() => None,
            Self::AsOne | Self::Whole => Some(newer.as_one(pairs)),
        })
    }

    /// Chooses the cheapest way, and estimates what it costs. `history` was made of `rows`.
    ///
    /// # Errors
    /// If Loro cannot read the history.
    pub(crate) fn cheapest(rows: &Rows, history: &History) -> Result<(Self, Cost), RoomError> {
        let newer = Newer::than(history.base(), history.doc())?;
        let pairs = newer.pairs();
        if pairs > Cost::NONE {
            return Ok((Self::AsOne, newer.as_one(pairs)));
        }
        if !rows.has_state() {
            return Ok((Self::Whole, Cost::NONE));
        }
        let (each, imports) = (one_by_one(rows), imports(rows, history));
        if each.max(imports) <= Cost::CHEAP {
            return Ok((Self::OneByOne, Cost::NONE));
        }
        Ok((Self::InParts, in_parts(&newer, history)))
    }
}

/// The cost of the log's updates one by one, if nothing is concurrent. No update has more characters than bytes.
fn one_by_one(rows: &Rows) -> Cost {
    let lengths = rows.log.iter().map(|row| row.payload.len() as u64);
    Cost::of_runs(lengths, u64::MAX)
}

/// The cost of small parts, if nothing is concurrent: that of their imports.
fn in_parts(newer: &Newer<'_>, history: &History) -> Cost {
    Cost::of_imports(newer.small_parts(), history.version().len())
}

/// The cost of importing the log's updates one by one, whatever is in them.
fn imports(rows: &Rows, history: &History) -> Cost {
    Cost::of_imports(rows.log.len(), history.version().len())
}
