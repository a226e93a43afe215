//! The updates and states that the app has on disk. Rooms and sockets take nothing else, so no client sees an update that
//! could still be lost.
//!
//! Every value is made in this file, from one of three sources: the app's answer to an append, a notice of another
//! relay or of the app, and a read of the app's log.

use crate::socket::frame::{Frame, Outbound};
use bytes::Bytes;
use tokio::time::Instant;

/// An update that was stored as one rev, or, if it was read from the log, as several.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    first: u64,
    last: u64,
    /// The frames, almost always one.
    frames: Vec<Frame>,
    /// The id of the socket that sent it and must not get it back; 0 if no socket of this relay did.
    sender: u64,
}

impl Outbound for Stored {
    fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

impl Stored {
    /// Takes an update that the socket `sender` sent and that the app says it has stored at this rev.
    pub(crate) fn appended(frame: &Frame, sender: u64, rev: u64) -> Self {
        Self {
            first: rev,
            last: rev,
            frames: vec![frame.clone()],
            sender,
        }
    }

    /// Takes the updates of a notice, one for each rev. `None` if the notice does not carry them all, because they were
    /// too large for it.
    pub(crate) fn noticed(
        first_rev: u64,
        last_rev: u64,
        payloads: Vec<wire::ByteVec>,
    ) -> Option<Vec<Self>> {
        let is_whole = payloads.iter().all(|payload| !payload.is_empty())
            && last_rev.checked_sub(first_rev) == (payloads.len() as u64).checked_sub(1)
            && !payloads.is_empty();
        is_whole.then(|| {
            (first_rev..)
                .zip(payloads)
                .map(|(rev, payload)| Self::elsewhere(rev, rev, vec![Frame::from(payload)]))
                .collect()
        })
    }

    /// Takes everything that the log has after a rev. Each blob of the answer reaches up to its own rev; a blob whose
    /// rev is not higher than those before it belongs to the last of them.
    pub(crate) fn read(after: u64, state: wire::State) -> Vec<Self> {
        let wire::State {
            rev, blobs, revs, ..
        } = state;
        let mut reached = after;
        let mut updates: Vec<Self> = Vec::new();
        // An app of an earlier release does not send the rev of each blob, so all blobs are one piece.
        let revs = revs.unwrap_or_else(|| vec![rev; blobs.len()]);
        for (rev, blob) in revs.into_iter().zip(blobs.into_iter().map(Frame::from)) {
            if rev > reached {
                updates.push(Self::elsewhere(reached + 1, rev, vec![blob]));
                reached = rev;
            } else if let Some(last) = updates.last_mut() {
                last.frames.push(blob);
            }
        }
        if rev > reached {
            // The updates of these revs are in quarantine.
            updates.push(Self::elsewhere(reached + 1, rev, Vec::new()));
        }
        updates
    }

    /// Notes which socket sent an update that was read, if `sender` knows its payload.
    pub(crate) fn claim(&mut self, sender: impl FnOnce(&[u8]) -> Option<u64>) {
        if let [frame] = &self.frames[..]
            && self.first == self.last
        {
            self.sender = sender(frame.payload()).unwrap_or(0);
        }
    }

    fn elsewhere(first: u64, last: u64, frames: Vec<Frame>) -> Self {
        Self {
            first,
            last,
            frames,
            sender: 0,
        }
    }

    /// The first rev that this covers.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The last rev that this covers.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Returns whether a socket that has everything up to `rev` lacks this. A socket has its own updates.
    pub(crate) fn is_news_to(&self, socket: u64, rev: u64) -> bool {
        self.last > rev && self.sender != socket
    }

    /// The number of bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().map(Frame::len).sum()
    }
}

/// A room's state as the app read it from the log, ready to be sent to any number of sockets.
pub(crate) struct Snapshot {
    pub(crate) rev: u64,
    /// The Loro version vector.
    pub(crate) version: Bytes,
    pub(crate) read_at: Instant,
    is_whole: bool,
    frames: Vec<Frame>,
}

impl Outbound for Snapshot {
    fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

impl Snapshot {
    /// Takes a state that the app answered just now.
    pub(crate) fn read(state: wire::StateOf<Bytes>) -> Self {
        Self {
            rev: state.rev,
            version: state.version,
            read_at: Instant::now(),
            is_whole: state.revs.is_some(),
            frames: state.blobs.into_iter().map(Frame::binary).collect(),
        }
    }

    /// Returns whether it holds the whole room as it is stored, whatever was asked for.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The number of bytes of all frames.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().map(Frame::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The revs of updates that were read, each with the blobs in it.
    fn spans(after: u64, rev: u64, blobs: &[u8], revs: Option<&[u64]>) -> Vec<(u64, u64, Vec<u8>)> {
        let state = wire::State {
            rev,
            version: Vec::new().into(),
            blobs: blobs.iter().map(|blob| vec![*blob].into()).collect(),
            revs: revs.map(<[u64]>::to_vec),
        };
        let spans = Stored::read(after, state).into_iter().map(|update| {
            let payloads = update.frames.iter().map(Frame::payload);
            let blobs = payloads.flatten().copied().collect();
            (update.first, update.last, blobs)
        });
        spans.collect()
    }

    #[test]
    fn what_was_read_has_the_revs_that_the_app_sent() {
        for (what, found, expected) in [
            (
                "the log alone",
                spans(2, 4, b"ab", Some(&[3, 4])),
                vec![(3, 3, b"a".to_vec()), (4, 4, b"b".to_vec())],
            ),
            ("nothing", spans(4, 4, b"", Some(&[])), vec![]),
            (
                "a snapshot of as many revs as there are blobs, and an update that waits for others",
                spans(2, 5, b"spa", Some(&[4, 1, 5])),
                vec![(3, 4, b"sp".to_vec()), (5, 5, b"a".to_vec())],
            ),
            (
                "quarantined updates, in between and last",
                spans(2, 6, b"ab", Some(&[3, 5])),
                vec![(3, 3, b"a".to_vec()), (4, 5, b"b".to_vec()), (6, 6, vec![])],
            ),
            (
                "an app of an earlier release",
                spans(2, 4, b"ab", None),
                vec![(3, 4, b"ab".to_vec())],
            ),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_notice_counts_only_if_it_carries_every_update() {
        let of = |first, last, payloads: &[&[u8]]| {
            let payloads = payloads.iter().map(|payload| payload.to_vec().into());
            Stored::noticed(first, last, payloads.collect()).map(|updates| updates.len())
        };
        assert_eq!(of(3, 4, &[b"a", b"b"]), Some(2));
        for (first, last, payloads) in [
            (3, 4, &[b"a".as_slice()][..]),
            (3, 3, &[]),
            (3, 3, &[b"".as_slice()]),
            (4, 3, &[]),
        ] {
            assert_eq!(of(first, last, payloads), None, "{first} {last}");
        }
    }
}
