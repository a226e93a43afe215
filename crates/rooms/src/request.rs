//! The operations of one append request, room by room, before it is stored: which of its updates overlap, and which build
//! on others of it.
//!
//! An update that builds on a suspect must not be stored before the suspect is decided. If two clients write under one
//! peer id, an update that builds on what one of them wrote may, by accident, fit what the other has stored. So the
//! updates are put into chains: if the first of a chain is not new to the room, the statement leaves all of the chain
//! out.

use std::collections::HashMap;

use loro::{Counter, PeerID};

use crate::{
    peers::{Place, array, need, signed},
    update::{Outline, Span},
};

/// The most heads of an update that builds on others of its request. An update with more is a suspect.
const MOST_HEADS: usize = 16;

/// The operations that one request writes.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    peers: HashMap<(&'a str, PeerID), Written>,
    disputed: Disputed<'a>,
    heads: Vec<Head<'a>>,
    /// The heads of each chain.
    chains: Vec<Vec<usize>>,
}

/// The operations that one peer writes in a request.
#[derive(Debug, Clone, Default)]
struct Written {
    /// The first counter, and the one after the last.
    start: Counter,
    end: Counter,
    /// The first counter and the digest of the last update.
    last: (Counter, i64),
    /// The operations of other peers on which these updates build.
    needs: HashMap<PeerID, Counter>,
    /// The chain of the last update.
    chain: usize,
}

/// The first operations of a peer in a request. If these do not overlap with stored ones, the later ones do not either.
#[derive(Debug)]
struct Head<'a> {
    project: &'a str,
    span: Span,
    /// The digest of the update that has them.
    digest: i64,
}

impl<'a> Request<'a> {
    /// Takes the next update of the request. If an earlier update of the request fulfils one of its needs, that need is
    /// replaced by the needs of that peer's updates. Returns false if the update is a suspect, which is not taken. It
    /// is a suspect if it overlaps with an earlier update and is not a resend, or if it builds on a suspect or on too
    /// many others.
    pub(crate) fn take(&mut self, project: &'a str, place: &mut Place) -> bool {
        let outline = &place.outline;
        let is_suspect = self.disputed.builds_on(project, outline) || self.overlaps(project, place);
        let chain = if is_suspect {
            None
        } else {
            self.chain(project, place)
        };
        let Some(chain) = chain else {
            self.disputed.add(project, outline);
            return false;
        };
        place.chain = chain;
        self.pass_needs_on(project, place);
        self.write(project, place);
        true
    }

    /// The heads of all chains as JSON. Each has the number of its chain, its room, its peer, its first counter and the
    /// one after its last, and its digest.
    pub(crate) fn heads_json(&self) -> String {
        let chains = self.chains.iter().enumerate();
        let of_chains =
            chains.flat_map(|(chain, heads)| heads.iter().map(move |head| (chain, head)));
        array(of_chains.map(|(chain, head)| {
            let Head {
                project,
                span: Span { peer, start, end },
                digest,
            } = &self.heads[*head];
            // Project ids need no escape in JSON.
            let peer = signed(*peer);
            format!("[{chain},\"{project}\",{peer},{start},{end},{digest}]")
        }))
    }

    fn overlaps(&self, project: &str, place: &Place) -> bool {
        place.outline.spans.iter().any(|span| {
            let written = self.peers.get(&(project, span.peer));
            written.is_some_and(|written| {
                let is_same = (span.start, place.digest) == written.last && span.end == written.end;
                span.start < written.end && !is_same
            })
        })
    }

    /// Finds the chain of an update: the one chain of the updates on which it builds, if there is exactly one and the
    /// update has no heads of its own, and otherwise a new chain. `None` if the new chain continues others and would
    /// have too many heads.
    fn chain(&mut self, project: &'a str, place: &Place) -> Option<usize> {
        let written = |peer| self.peers.get(&(project, peer));
        let spans = place.outline.spans.iter();
        let (known, fresh): (Vec<&Span>, Vec<&Span>) =
            spans.partition(|span| written(span.peer).is_some());
        let needs = place.outline.needs();
        let mut parents: Vec<usize> = known
            .iter()
            .filter_map(|span| written(span.peer))
            .chain(needs.filter_map(|(peer, counter)| {
                written(peer).filter(|written| written.start < counter)
            }))
            .map(|written| written.chain)
            .collect();
        parents.sort_unstable();
        parents.dedup();
        if let ([parent], []) = (&parents[..], &fresh[..]) {
            return Some(*parent);
        }
        let inherited = parents.iter().flat_map(|chain| &self.chains[*chain]);
        let mut heads: Vec<usize> = inherited.copied().collect();
        heads.sort_unstable();
        heads.dedup();
        if !heads.is_empty() && heads.len() + fresh.len() > MOST_HEADS {
            return None;
        }
        for span in fresh {
            heads.push(self.heads.len());
            self.heads.push(Head {
                project,
                span: *span,
                digest: place.digest,
            });
        }
        self.chains.push(heads);
        Some(self.chains.len() - 1)
    }

    fn pass_needs_on(&self, project: &str, place: &mut Place) {
        for (peer, counter) in std::mem::take(&mut place.needs) {
            match self.peers.get(&(project, peer)) {
                Some(written) if written.start < counter && counter <= written.end => {
                    place.relies = true;
                    for (peer, counter) in &written.needs {
                        need(&mut place.needs, *peer, *counter);
                    }
                }
                _ => need(&mut place.needs, peer, counter),
            }
        }
    }

    fn write(&mut self, project: &'a str, place: &Place) {
        for span in &place.outline.spans {
            let written = self
                .peers
                .entry((project, span.peer))
                .or_insert_with(|| Written {
                    start: span.start,
                    ..Written::default()
                });
            written.end = span.end.max(written.end);
            written.last = (span.start, place.digest);
            written.chain = place.chain;
            for (peer, counter) in &place.needs {
                need(&mut written.needs, *peer, *counter);
            }
        }
    }
}

/// The operations that are not stored, or not yet, although other operations under the same ids may be. They are kept
/// by room and peer, as the counter from which on they are disputed.
#[derive(Debug, Default)]
pub(crate) struct Disputed<'a>(HashMap<(&'a str, PeerID), Counter>);

impl<'a> Disputed<'a> {
    /// Adds the operations of an update.
    pub(crate) fn add(&mut self, project: &'a str, outline: &Outline) {
        for Span { peer, start, .. } in &outline.spans {
            let from = self.0.entry((project, *peer)).or_insert(*start);
            *from = (*from).min(*start);
        }
    }

    /// Returns whether an update may build on these operations.
    pub(crate) fn builds_on(&self, project: &str, outline: &Outline) -> bool {
        let from = |peer| self.0.get(&(project, peer));
        !self.0.is_empty()
            && outline
                .needs()
                .any(|(peer, counter)| from(peer).is_some_and(|from| *from < counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::ID;

    /// An update with operations of these peers, from one counter to another, that builds on these operations.
    fn place(spans: &[(PeerID, Counter, Counter)], deps: &[(PeerID, Counter)]) -> Place {
        let spans = spans.iter();
        let spans = spans.map(|&(peer, start, end)| Span { peer, start, end });
        let deps = deps.iter().map(|&(peer, counter)| ID::new(peer, counter));
        let outline = Outline {
            spans: spans.collect(),
            deps: deps.collect(),
        };
        Place::new(outline, 0)
    }

    fn take(request: &mut Request<'_>, place: &mut Place) -> bool {
        request.take("p", place)
    }

    #[test]
    fn an_update_needs_what_those_of_its_request_do_not_bring() {
        // Peer 1 writes 5 and 6, which build on what peer 2 has written before.
        let first = place(&[(1, 5, 7)], &[(2, 2)]);
        for (dep, needs, relies) in [
            (4, &[(1, 5)][..], false),
            (5, &[(1, 5), (2, 3)], true),
            (6, &[(1, 5), (2, 3)], true),
            (7, &[(1, 8)], false),
        ] {
            let mut request = Request::default();
            assert!(take(&mut request, &mut first.clone()));
            let mut next = place(&[(3, 0, 1)], &[(1, dep)]);
            assert!(take(&mut request, &mut next));
            let mut found: Vec<_> = next.needs.into_iter().collect();
            found.sort_unstable();
            assert_eq!(found, needs, "on {dep}");
            assert_eq!(next.relies, relies, "on {dep}");
            // If the first update overlaps with what is stored, what builds on it is not stored either.
            let heads: &[usize] = if dep < 5 { &[1] } else { &[0, 1] };
            assert_eq!(request.chains[next.chain], heads, "on {dep}");
        }
    }

    #[test]
    fn an_update_that_builds_on_too_many_others_of_its_request_is_a_suspect() {
        let most = MOST_HEADS as u64;
        for (others, own, is_taken) in [
            (most, 0, true),
            (most + 1, 0, false),
            (most - 1, 1, true),
            (most, 1, false),
            (most - 2, 2, true),
            (most - 2, 3, false),
            (1, most - 1, true),
            (1, most, false),
            // The heads of an update that builds on no other are not bounded.
            (0, most + 1, true),
        ] {
            let mut request = Request::default();
            for peer in 0..others {
                assert!(take(&mut request, &mut place(&[(peer, 0, 1)], &[])));
            }
            let fresh = (0..own).map(|peer| (100 + peer, 0, 1));
            // The update continues what the first peer wrote, if there is one, and begins with its own peers.
            let goes_on = (others > 0).then_some((0, 1, 2));
            let spans: Vec<_> = fresh.chain(goes_on).collect();
            let deps: Vec<_> = (1..others).map(|peer| (peer, 0)).collect();
            let mut next = place(&spans, &deps);
            let taken = take(&mut request, &mut next);
            assert_eq!(taken, is_taken, "{own} beside {others}");
            if taken {
                let heads = request.chains[next.chain].len() as u64;
                assert_eq!(heads, own + others, "{own} beside {others}");
            }
        }
    }
}
