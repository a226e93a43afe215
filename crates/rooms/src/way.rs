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
    /// The updates go into the snapshot one by one. If nothing is concurrent, the time is linear, except that it grows
    /// with the square of each single update's length.
    OneByOne,
    /// The updates that the state lacks go into it as one update. If concurrent updates came one by one, Loro's time
    /// would grow with the square of their whole length.
    AsOne,
    /// The updates that the state lacks go into it in small parts. If nothing is concurrent, Loro's time grows with the
    /// square of each part's length alone.
    InParts,
    /// The whole document goes into an empty one. If nothing in it is concurrent, the time is linear, also for a long
    /// run. If such a run goes into a text that is there, Loro's time grows with the square of the run's length.
    Whole,
}

impl Way {
    /// Lists all ways.
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
            Self::Whole if pairs == Cost::NONE => Some(Cost::NONE),
            Self::AsOne | Self::Whole => Some(newer.as_one(pairs)),
        })
    }

    /// Chooses the cheapest way, and estimates what it costs. `history` was made of `rows`, and `stage` bytes can be applied
    /// at a time.
    ///
    /// # Errors
    /// If Loro cannot read the history.
    pub(crate) fn cheapest(
        rows: &Rows,
        history: &History,
        stage: usize,
    ) -> Result<(Self, Cost), RoomError> {
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
        let nothing = VersionVector::default();
        if is_little_beside_newer(rows)
            && rows.bytes() <= stage
            && (history.base().is_empty()
                || Newer::than(&nothing, history.doc())?.pairs() == Cost::NONE)
        {
            return Ok((Self::Whole, Cost::NONE));
        }
        Ok((Self::InParts, in_parts(&newer, history)))
    }
}

/// Returns whether the snapshot is so small beside what is newer that computing it anew takes less time than looking at
/// its state for each part.
fn is_little_beside_newer(rows: &Rows) -> bool {
    let snapshot = rows.snapshot.as_ref().map_or(0, |row| row.blob.len());
    snapshot <= 2 * (rows.bytes() - snapshot)
}

/// The cost of the log's updates one by one, if nothing is concurrent. The bytes of an update bound its characters.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{LogRow, SnapshotRow};
    use loro::{ExportMode, LoroDoc};

    /// Makes letters that Loro cannot compress to less than half.
    fn letters(count: usize) -> String {
        let mut number = 7_u32;
        let letters = (0..count).map(|_| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'0' + (number >> 26) as u8)
        });
        letters.collect()
    }

    /// Types at the end of the text, as one update.
    fn typed(doc: &LoroDoc, count: usize) -> Vec<u8> {
        let before = doc.oplog_vv();
        let text = doc.get_text("text");
        text.insert(text.len_unicode(), &letters(count)).unwrap();
        doc.commit();
        doc.export(ExportMode::updates(&before)).unwrap()
    }

    /// Makes a document into which this many clients typed at the same time.
    fn written(clients: u64, count: usize) -> LoroDoc {
        let doc = LoroDoc::new();
        for peer in 1..=clients {
            let client = LoroDoc::new();
            client.set_peer_id(peer).unwrap();
            doc.import(&typed(&client, count)).unwrap();
        }
        doc
    }

    fn rows(beneath: &LoroDoc, log: &[Vec<u8>]) -> Rows {
        let snapshot = SnapshotRow {
            rev: 1,
            blob: beneath.export(ExportMode::Snapshot).unwrap(),
            has_state: true,
            version: beneath.oplog_vv().encode(),
        };
        let log = (2..).zip(log).map(|(rev, payload)| LogRow {
            rev,
            payload: payload.clone(),
        });
        Rows {
            snapshot: (!beneath.oplog_vv().is_empty()).then_some(snapshot),
            log: log.collect(),
            ..Rows::default()
        }
    }

    fn cheapest(rows: &Rows, stage: usize) -> (Way, Cost) {
        Way::cheapest(rows, &History::of(rows).unwrap(), stage).unwrap()
    }

    /// The number of letters that cost too much if a client types them at once into a text that is there, because the
    /// cost grows with their square.
    const PASTE: usize = 200_000;

    #[test]
    fn a_long_run_goes_with_the_whole_document_if_little_lies_beneath_and_nothing_is_concurrent() {
        for (clients, count, way) in [
            (0, 0, Way::Whole),
            (1, 1000, Way::Whole),
            (1, PASTE / 2, Way::Whole),
            (1, 2 * PASTE, Way::InParts),
            (2, 1000, Way::InParts),
        ] {
            let doc = written(clients, count);
            let beneath = doc.fork();
            let rows = rows(&beneath, &[typed(&doc, PASTE)]);
            let (found, cost) = cheapest(&rows, rows.bytes());
            assert_eq!(found, way, "{count} letters of {clients}");
            assert_eq!(cost == Cost::NONE, way == Way::Whole);
            // With a stage of one byte less, the whole document would be applied in more than one stage.
            assert_eq!(cheapest(&rows, rows.bytes() - 1).0, Way::InParts);
        }
    }

    #[test]
    fn short_updates_go_one_by_one_and_concurrent_ones_as_one() {
        let beneath = written(1, 1000);
        let [one, other] = [(); 2].map(|()| beneath.fork());
        let log = [typed(&one, 1000), typed(&one, 1000)];
        assert_eq!(cheapest(&rows(&beneath, &log), usize::MAX).0, Way::OneByOne);
        let log = [log[0].clone(), typed(&other, 1000)];
        let (way, cost) = cheapest(&rows(&beneath, &log), usize::MAX);
        assert_eq!(way, Way::AsOne);
        assert!(cost > Cost::NONE);
    }

    #[test]
    fn the_whole_document_costs_nothing_as_long_as_nothing_in_it_is_concurrent() {
        for (clients, is_free) in [(1, true), (2, false)] {
            let doc = written(clients, 1000);
            let beneath = doc.fork();
            let rows = rows(&beneath, &[typed(&doc, PASTE)]);
            let cost = Way::Whole.cost(&rows, &History::of(&rows).unwrap());
            let cost = cost.unwrap().unwrap();
            assert_eq!(cost == Cost::NONE, is_free, "{clients}");
        }
    }

    #[test]
    fn a_way_has_no_cost_if_nothing_bounds_it_or_another_is_the_same() {
        let beneath = written(1, 1000);
        let [one, other] = [(); 2].map(|()| beneath.fork());
        let (first, second) = (typed(&one, 10), typed(&other, 10));
        for (rows, ways) in [
            (rows(&beneath, std::slice::from_ref(&first)), &Way::ALL[..]),
            (rows(&beneath, &[first, second]), &[Way::AsOne, Way::Whole]),
            (
                rows(&LoroDoc::new(), &[typed(&LoroDoc::new(), 10)]),
                &[Way::OneByOne, Way::AsOne, Way::InParts],
            ),
        ] {
            let history = History::of(&rows).unwrap();
            let has_cost = |way: &Way| way.cost(&rows, &history).unwrap().is_some();
            let found: Vec<Way> = Way::ALL.into_iter().filter(has_cost).collect();
            assert_eq!(found, ways);
        }
    }
}
