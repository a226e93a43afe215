//! Estimates what it costs to compute a document's state.
//!
//! Loro computes it in linear time as long as each operation follows the one before. Otherwise it may take the product
//! of concurrent operations, n characters beside m; and for each run of characters, such as a paste, the square of the
//! run's length, whatever is concurrent with it.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    ops::ControlFlow,
};

use loro::{
    ChangeMeta, ContainerID, ContainerType, Counter, Frontiers, ID, IdSpan, LoroDoc, PeerID,
    VersionVector,
};

use crate::error::RoomError;

/// A number of pairs of operations that Loro may have to look at. In the worst case that is known, the pastes of two
/// clients into one text at the same time, a trillion of them takes about 50 s of processor time in Wasm, as
/// `cargo xtask bench merge` measures; most cases take much less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost(pub(crate) u64);

/// The cost of a look at one peer: 5,000 imports into a document of 5,000 peers take 6 s natively.
const OF_A_LOOK: u64 = 10_000;

/// The cost of an import: 0.2 ms in Wasm.
const OF_AN_IMPORT: u64 = 4_000_000;

const TRILLION: u64 = 1_000_000_000_000;

impl Cost {
    /// The most that is computed at once, with a compaction or for a caller that waits: at worst about 0.5 s.
    pub(crate) const CHEAP: Self = Self(TRILLION / 100);
    /// The most that a merge of its own tries: at worst about 100 s.
    pub(crate) const LONG: Self = Self(2 * TRILLION);
    /// The cost of work whose time is linear in the bytes.
    pub(crate) const NONE: Self = Self(0);

    /// Computes the cost of importing this many updates into a document of this many peers, one by one: each import looks
    /// at all peers.
    pub(crate) fn of_imports(updates: usize, peers: usize) -> Self {
        let each = OF_A_LOOK
            .saturating_mul(peers as u64)
            .saturating_add(OF_AN_IMPORT);
        Self(each.saturating_mul(updates as u64))
    }

    /// The cost of runs of these lengths: half the square of each piece, which is at most the `longest`.
    pub(crate) fn of_runs(lengths: impl IntoIterator<Item = u64>, longest: u64) -> Self {
        let squares = lengths
            .into_iter()
            .map(|length| length.saturating_mul(length.min(longest)) / 2);
        Self(squares.fold(0, u64::saturating_add))
    }
}

/// The operations of a document that the state of an earlier version lacks.
///
/// No state is computed, so all of this takes a time that is linear in these operations.
#[derive(Debug)]
pub(crate) struct Newer<'a> {
    doc: &'a LoroDoc,
    base: &'a VersionVector,
    /// The changes that hold them. The changes on which a change depends come before it.
    changes: Vec<ChangeMeta>,
}

impl<'a> Newer<'a> {
    /// Finds the operations of `doc` that are not in the version `base`.
    ///
    /// # Errors
    /// If Loro cannot read the document's history.
    pub(crate) fn than(base: &'a VersionVector, doc: &'a LoroDoc) -> Result<Self, RoomError> {
        let lacking = total(&doc.oplog_vv()) - total(base);
        let mut found = 0;
        // Loro visits a change twice if two others depend on it in different places.
        let mut told = HashSet::new();
        let mut changes = Vec::new();
        let heads: Vec<_> = doc.oplog_frontiers().iter().collect();
        doc.travel_change_ancestors(&heads, &mut |change| {
            let new = i64::from(end(&change)) - i64::from(start(&change, base));
            if new > 0 && told.insert(change.id) {
                found += new;
                changes.push(change);
            }
            if found < lacking {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .map_err(RoomError::of_loro)?;
        // Loro's order is by their ends, and a change may depend on the middle of another.
        changes.sort_by_key(|change| (change.lamport, change.id.peer));
        Ok(Self { doc, base, changes })
    }

    /// The first ids of the changes that hold them. The changes on which a change depends come before it.
    pub(crate) fn into_ids(self) -> Vec<ID> {
        self.changes.into_iter().map(|change| change.id).collect()
    }

    /// Parts these operations into about `count` parts of the same number of operations. Each part builds on nothing
    /// but those before it.
    pub(crate) fn parts(&self, count: usize) -> Vec<Vec<IdSpan>> {
        let spans = self.changes.iter().map(|change| {
            let start = start(change, self.base);
            IdSpan::new(change.id.peer, start, end(change))
        });
        parted_spans(&spans.collect::<Vec<_>>(), count)
    }

    /// Counts, for each of the operations, those that came before it and that its author had not seen.
    pub(crate) fn pairs(&self) -> Cost {
        let mut before = total(self.base);
        let mut pairs = 0_u64;
        let mut seen_by = SeenBy::default();
        for change in &self.changes {
            let start = start(change, self.base);
            let dep = change.deps.as_single();
            let dep = dep.filter(|_| start == change.id.counter);
            let seen = dep.and_then(|dep| seen_by.and_including(dep));
            let seen = seen.unwrap_or_else(|| {
                let seen = seen_by.heads_and_before(&change.deps, self.doc);
                seen + i64::from(start - change.id.counter)
            });
            let end = end(change);
            let length = i64::from(end - start);
            let concurrent = (before - seen).max(0);
            pairs = pairs.saturating_add((length as u64).saturating_mul(concurrent as u64));
            before += length;
            seen_by.note(change.id.peer, Seen { start, end, seen });
        }
        Cost(pairs)
    }

    /// The number of operations.
    fn count(&self) -> u64 {
        let all = total(&self.doc.oplog_vv()) - total(self.base);
        u64::try_from(all).unwrap_or(0)
    }

    /// The number of parts that are so small that the square of their length costs nothing beside the imports.
    pub(crate) fn small_parts(&self) -> usize {
        usize::try_from(self.count() / SMALL + 1).unwrap_or(usize::MAX)
    }

    /// The cost of applying these operations, which have these [pairs](Newer::pairs), in `count` parts, each of which may look
    /// at all concurrent operations again.
    pub(crate) fn in_parts(&self, pairs: Cost, count: usize) -> Cost {
        let (all, count) = (self.count(), count as u64);
        let longest = all / count.max(1) + 1;
        let pairs = Cost(pairs.0.saturating_mul(count));
        if longest <= SMALL {
            return pairs;
        }
        let mut runs = Cost::of_runs([all], longest);
        // Finding the runs takes long.
        if runs > Cost::CHEAP {
            runs = self.runs_up_to(longest);
        }
        pairs.max(runs)
    }

    /// The cost of applying these operations, which have these [pairs](Newer::pairs), as one update.
    pub(crate) fn as_one(&self, pairs: Cost) -> Cost {
        // Finding the runs takes long.
        if self.longest_runs() <= pairs {
            return pairs;
        }
        pairs.max(self.runs())
    }

    /// The most that the [runs](Newer::runs) can cost, whatever the containers are.
    fn longest_runs(&self) -> Cost {
        let mut runs: HashMap<PeerID, u64> = HashMap::new();
        let mut ended = Vec::new();
        for change in &self.changes {
            if !follows_itself(change) {
                ended.extend(runs.remove(&change.id.peer));
            }
            let length = end(change) - start(change, self.base);
            *runs.entry(change.id.peer).or_default() += u64::try_from(length).unwrap_or(0);
        }
        ended.extend(runs.into_values());
        Cost::of_runs(ended, u64::MAX)
    }

    /// The cost of the runs: each is what one peer does to one text or list, one operation after the other, without
    /// seeing what others do. Values of maps cost no square.
    pub(crate) fn runs(&self) -> Cost {
        self.runs_up_to(u64::MAX)
    }

    /// The cost of the [runs](Newer::runs), if each is in pieces of at most this length.
    fn runs_up_to(&self, longest: u64) -> Cost {
        let mut runs: HashMap<PeerID, Run> = HashMap::new();
        let mut ended = Vec::new();
        for change in &self.changes {
            let peer = change.id.peer;
            if !follows_itself(change) {
                ended.extend(runs.remove(&peer));
            }
            let end = end(change);
            let mut from = start(change, self.base);
            // Looking at a change takes as long as looking at a piece of it, and most changes concern one text or list.
            let whole = self.sequence(ID::new(peer, from), end - from);
            let step = if whole.is_some() { end - from } else { PIECE };
            while from < end {
                let to = from.saturating_add(step).min(end);
                let piece = whole.clone();
                let piece = piece.or_else(|| self.sequence(ID::new(peer, from), to - from));
                let piece = piece.map(|container| Run {
                    container,
                    start: from,
                    end: to,
                });
                match (runs.entry(peer), piece) {
                    (Entry::Occupied(mut run), Some(piece)) if run.get().continues(&piece) => {
                        run.get_mut().end = to;
                    }
                    (Entry::Occupied(mut run), Some(piece)) => ended.push(run.insert(piece)),
                    (Entry::Occupied(run), None) => ended.push(run.remove()),
                    (Entry::Vacant(place), Some(piece)) => drop(place.insert(piece)),
                    (Entry::Vacant(_), None) => {}
                }
                from = to;
            }
        }
        ended.extend(runs.into_values());
        Cost::of_runs(ended.iter().map(Run::length), longest)
    }

    /// The one text or list to which all of these operations belong; `None` if they belong to several containers, or to
    /// one of another kind.
    fn sequence(&self, first: ID, length: Counter) -> Option<ContainerID> {
        let length = usize::try_from(length).ok()?;
        let mut containers = self
            .doc
            .get_changed_containers_in(first, length)
            .into_iter();
        let container = containers.next().filter(|_| containers.next().is_none())?;
        let is_sequence = matches!(
            container.container_type(),
            ContainerType::Text | ContainerType::List | ContainerType::MovableList
        );
        is_sequence.then_some(container)
    }
}

/// The operations that the author of each change had seen, by peer.
#[derive(Debug, Default)]
struct SeenBy {
    of_peers: HashMap<PeerID, Vec<Seen>>,
    /// The heads that were asked for last, and the number of operations up to and including them.
    last: (Frontiers, i64),
}

/// A change, and how many operations its author had seen before its start.
#[derive(Debug)]
struct Seen {
    start: Counter,
    end: Counter,
    seen: i64,
}

impl SeenBy {
    /// Notes the next change of a peer.
    fn note(&mut self, peer: PeerID, change: Seen) {
        self.of_peers.entry(peer).or_default().push(change);
    }

    /// The number of operations that the author of this one had seen, with this one; `None` if its change was not
    /// noted.
    fn and_including(&self, id: ID) -> Option<i64> {
        let of_peer = self.of_peers.get(&id.peer)?;
        let place = of_peer.partition_point(|change| change.start <= id.counter);
        let change = of_peer.get(place.checked_sub(1)?)?;
        let seen = change.seen + i64::from(id.counter - change.start) + 1;
        (id.counter < change.end).then_some(seen)
    }

    /// The number of operations up to and including these heads. It is kept for the next call, because making the
    /// version of heads takes a time that grows with the number of peers, and authors who have seen everything build on
    /// the same heads.
    fn heads_and_before(&mut self, heads: &Frontiers, doc: &LoroDoc) -> i64 {
        if self.last.0 != *heads {
            let version = doc.frontiers_to_vv(heads).unwrap_or_default();
            self.last = (heads.clone(), total(&version));
        }
        self.last.1
    }
}

/// The number of operations that are looked at together. The cost of a shorter run is too small to count.
const PIECE: Counter = 1024;

/// The most operations of a small part. Its square takes less than the rest of its import, some 0.1 ms.
const SMALL: u64 = 8192;

/// The operations of one peer on one container that follow each other.
#[derive(Debug)]
struct Run {
    container: ContainerID,
    start: Counter,
    end: Counter,
}

impl Run {
    fn length(&self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }

    fn continues(&self, next: &Self) -> bool {
        self.end == next.start && self.container == next.container
    }
}

/// Parts spans, in their order, into about `count` parts of the same number of operations.
pub(crate) fn parted_spans(spans: &[IdSpan], count: usize) -> Vec<Vec<IdSpan>> {
    let lengths = spans.iter();
    let lengths = lengths.map(|span| span.counter.end - span.counter.start);
    let all: i64 = lengths.map(i64::from).sum();
    let most = all / i64::try_from(count.max(1)).unwrap_or(i64::MAX) + 1;
    let most = Counter::try_from(most).unwrap_or(Counter::MAX);
    let (mut parts, mut part, mut room) = (Vec::new(), Vec::new(), most);
    for span in spans {
        let (mut from, end) = (span.counter.start, span.counter.end);
        while from < end {
            let to = from.saturating_add(room).min(end);
            part.push(IdSpan::new(span.peer, from, to));
            room -= to - from;
            from = to;
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = most;
            }
        }
    }
    parts.extend(Some(part).filter(|part| !part.is_empty()));
    parts
}

/// Returns the number of operations that a version has.
fn total(version: &VersionVector) -> i64 {
    version.values().map(|end| i64::from(*end)).sum()
}

/// The first operation of a change that is not in the version `base`.
fn start(change: &ChangeMeta, base: &VersionVector) -> Counter {
    let known = base.get(&change.id.peer).copied().unwrap_or(0);
    change.id.counter.max(known)
}

fn end(change: &ChangeMeta) -> Counter {
    change.id.counter + Counter::try_from(change.len).unwrap_or(Counter::MAX)
}

/// Returns whether a change's author had seen nothing of others since their last change.
fn follows_itself(change: &ChangeMeta) -> bool {
    let dep = change.deps.as_single();
    dep.is_some_and(|dep| dep.peer == change.id.peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::{ExportMode, LoroMap, LoroText};

    fn typed(doc: &LoroDoc, length: usize) {
        doc.get_text("text").insert(0, &"x".repeat(length)).unwrap();
        doc.commit();
    }

    fn writer(peer: u64) -> LoroDoc {
        let doc = LoroDoc::new();
        doc.set_peer_id(peer).unwrap();
        doc
    }

    fn import(into: &LoroDoc, from: &LoroDoc) {
        let update = from.export(ExportMode::updates(&into.oplog_vv())).unwrap();
        into.import(&update).unwrap();
    }

    fn cost(docs: &[&LoroDoc], base: &VersionVector) -> u64 {
        let all = LoroDoc::new();
        all.detach();
        for doc in docs {
            import(&all, doc);
        }
        Newer::than(base, &all).unwrap().pairs().0
    }

    fn runs(docs: &[&LoroDoc], base: &VersionVector) -> u64 {
        let all = LoroDoc::new();
        all.detach();
        for doc in docs {
            import(&all, doc);
        }
        Newer::than(base, &all).unwrap().runs().0
    }

    #[test]
    fn a_merge_of_its_own_tries_two_hundred_times_what_is_cheap() {
        assert_eq!(Cost::LONG.0, 200 * Cost::CHEAP.0);
    }

    #[test]
    fn parts_have_as_many_operations_each_and_begin_at_the_base() {
        let (one, two) = (writer(1), writer(2));
        typed(&one, 10);
        import(&two, &one);
        typed(&two, 7);
        let base = VersionVector::from_iter([(1, 4)]);
        let newer = Newer::than(&base, &two).unwrap();
        let spans = |spans: &[(PeerID, Counter, Counter)]| {
            let spans = spans.iter();
            let spans = spans.map(|(peer, from, to)| IdSpan::new(*peer, *from, *to));
            spans.collect::<Vec<_>>()
        };
        let (first, second) = ((1, 4, 10), (2, 0, 7));
        assert_eq!(newer.parts(0), [spans(&[first, second])]);
        assert_eq!(newer.parts(1), [spans(&[first, second])]);
        assert_eq!(
            newer.parts(3),
            [
                spans(&[(1, 4, 9)]),
                spans(&[(1, 9, 10), (2, 0, 4)]),
                spans(&[(2, 4, 7)]),
            ]
        );
    }

    #[test]
    fn one_writer_after_the_other_costs_nothing() {
        let (one, two) = (writer(1), writer(2));
        let nothing = VersionVector::default();
        for _ in 0..20 {
            typed(&one, 100);
            import(&two, &one);
            typed(&two, 100);
            import(&one, &two);
        }
        assert_eq!(cost(&[&one, &two], &nothing), 0);
        assert_eq!(cost(&[&LoroDoc::new()], &nothing), 0);
    }

    /// Makes a document of four writers who see each other's work now and then, and lists versions that writers had.
    fn busy() -> (LoroDoc, Vec<VersionVector>) {
        let docs: Vec<LoroDoc> = (1..=4).map(writer).collect();
        let mut random = 7_usize;
        let mut next = |most: usize| {
            random = (random * 1_103_515_245 + 12_345) % (1 << 31);
            random / 7 % most
        };
        let mut versions = vec![VersionVector::default()];
        for _ in 0..200 {
            let (one, other) = (next(4), next(4));
            if next(3) == 0 && one != other {
                import(&docs[one], &docs[other]);
                versions.push(docs[one].oplog_vv());
            } else {
                typed(&docs[one], next(5) + 1);
            }
        }
        let all = LoroDoc::new();
        all.detach();
        for doc in &docs {
            import(&all, doc);
        }
        (all, versions)
    }

    #[test]
    fn pairs_are_those_that_the_versions_tell() {
        let (all, versions) = busy();
        for base in &versions {
            let newer = Newer::than(base, &all).unwrap();
            let (mut before, mut expected) = (total(base), 0);
            for change in &newer.changes {
                let from = start(change, base);
                let length = i64::from(end(change) - from);
                let seen = total(&all.frontiers_to_vv(&change.deps).unwrap());
                let seen = seen + i64::from(from - change.id.counter);
                expected += length * (before - seen).max(0);
                before += length;
            }
            assert_eq!(newer.pairs().0, expected as u64);
        }
    }

    /// A change may depend on the middle of another.
    #[test]
    fn each_part_builds_on_nothing_but_those_before_it() {
        let (all, versions) = busy();
        for base in &versions {
            let doc = LoroDoc::new();
            doc.detach();
            let below = base.iter().map(|(peer, end)| IdSpan::new(*peer, 0, *end));
            let below: Vec<IdSpan> = below.collect();
            if !below.is_empty() {
                let below = all
                    .export(ExportMode::updates_in_range(&below[..]))
                    .unwrap();
                doc.import(&below).unwrap();
            }
            assert_eq!(doc.oplog_vv(), *base);
            for part in Newer::than(base, &all).unwrap().parts(40) {
                let update = all.export(ExportMode::updates_in_range(&part[..])).unwrap();
                let status = doc.import(&update).unwrap();
                assert_eq!(status.pending, None);
            }
            assert_eq!(doc.oplog_vv(), all.oplog_vv());
        }
    }

    #[test]
    fn a_long_text_is_taken_in_small_parts() {
        let nothing = VersionVector::default();
        for (length, parts) in [(0, 1), (8191, 1), (8192, 2), (3 * 8192 - 1, 3)] {
            let doc = writer(1);
            typed(&doc, length);
            let before = doc.oplog_vv();
            let newer = Newer::than(&nothing, &doc).unwrap();
            assert_eq!(newer.small_parts(), parts, "{length}");
            // Only what the state lacks counts.
            typed(&doc, 8192);
            let newer = Newer::than(&before, &doc).unwrap();
            assert_eq!(newer.small_parts(), 2, "{length}");
        }
        let doc = writer(1);
        typed(&doc, 4 * 8192);
        let newer = Newer::than(&nothing, &doc).unwrap();
        for (count, cost) in [(1, 32_768 * 32_768 / 2), (4, 32_768 * 8193 / 2), (5, 0)] {
            assert_eq!(newer.in_parts(newer.pairs(), count).0, cost, "{count}");
        }
        // If the bound is not cheap, the runs are looked at: here are two of half the length.
        let doc = writer(1);
        typed(&doc, 75_000);
        let other = doc.get_text("another");
        other.insert(0, &"x".repeat(75_000)).unwrap();
        doc.commit();
        let newer = Newer::than(&nothing, &doc).unwrap();
        assert_eq!(newer.in_parts(newer.pairs(), 1).0, 75_000 * 75_000);
    }

    #[test]
    fn writers_who_never_meet_cost_the_product_of_their_lengths() {
        let (one, two, three) = (writer(1), writer(2), writer(3));
        for _ in 0..10 {
            typed(&one, 100);
            typed(&two, 20);
        }
        let nothing = VersionVector::default();
        assert_eq!(cost(&[&one, &two], &nothing), 1000 * 200);
        typed(&three, 10);
        assert_eq!(
            cost(&[&one, &two, &three], &nothing),
            1000 * 200 + 1200 * 10
        );
    }

    #[test]
    fn what_comes_back_from_offline_is_concurrent_to_what_the_snapshot_holds() {
        let (one, two) = (writer(1), writer(2));
        typed(&one, 50);
        import(&two, &one);
        typed(&one, 1000);
        let base = one.oplog_vv();
        typed(&two, 30);
        assert_eq!(cost(&[&one, &two], &base), 1000 * 30);
        // A writer who has seen it all is concurrent to nothing, although the snapshot ends in the middle of a change.
        typed(&one, 500);
        assert_eq!(cost(&[&one], &base), 0);
        import(&one, &two);
        typed(&one, 500);
        assert_eq!(cost(&[&one], &base), 1500 * 30);
    }

    #[test]
    fn a_run_costs_half_its_square_whatever_stands_beside_it() {
        let (one, two) = (writer(1), writer(2));
        let nothing = VersionVector::default();
        let half = |length: u64| length * length / 2;
        for _ in 0..10 {
            typed(&one, 1000);
        }
        typed(&two, 1);
        assert_eq!(runs(&[&one, &two], &nothing), half(10_000));
        assert_eq!(runs(&[&one], &nothing), half(10_000));
        // The snapshot may end in the middle of a run.
        let base = one.oplog_vv();
        typed(&one, 3000);
        assert_eq!(runs(&[&one], &base), half(3000));
        // Another text, and what its author saw of others, end it.
        one.get_text("another")
            .insert(0, &"x".repeat(2000))
            .unwrap();
        one.commit();
        assert_eq!(runs(&[&one], &base), half(3000) + half(2000));
        import(&one, &two);
        typed(&one, 4000);
        assert_eq!(runs(&[&one], &base), half(3000) + half(2000) + half(4000));
        // In one container, what another's work does not part would be one run.
        let newer = Newer::than(&base, &one).unwrap();
        assert_eq!(newer.longest_runs().0, half(5000) + half(4000));
        assert_eq!(runs(&[&LoroDoc::new()], &nothing), 0);
    }

    #[test]
    fn the_runs_cost_at_most_what_they_would_in_one_container() {
        let (all, versions) = busy();
        for base in &versions {
            let newer = Newer::than(base, &all).unwrap();
            assert!(newer.runs() <= newer.longest_runs());
            let pairs = newer.pairs();
            assert_eq!(newer.as_one(pairs), pairs.max(newer.runs()));
        }
        let nothing = VersionVector::default();
        let newer = Newer::than(&nothing, &all).unwrap();
        assert!(newer.longest_runs() < Cost(total(&all.oplog_vv()).pow(2) as u64 / 2));
    }

    #[test]
    fn a_busy_board_has_no_long_runs() {
        let (one, two) = (writer(1), writer(2));
        typed(&two, 1);
        let nodes = one.get_map("nodes");
        let insert = |n: i64| {
            let node = nodes.insert_container(&(n % 2000).to_string(), LoroMap::new())?;
            node.insert("x", n)?;
            node.insert_container("words", LoroText::new())?
                .insert(0, "some words")
        };
        for n in 0..20_000 {
            insert(n).unwrap();
            if n % 100 == 0 {
                one.commit();
            }
        }
        one.commit();
        let cost = runs(&[&one, &two], &VersionVector::default());
        assert!(cost < Cost::CHEAP.0 / 1000, "{cost}");
    }
}
