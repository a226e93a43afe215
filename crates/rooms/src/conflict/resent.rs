//! A resend is never taken for the writing of another client. Here two clients edit containers of all kinds at random,
//! and what they wrote is sent again, cut and joined in other ways.

use loro::{
    ExpandType, ExportMode, IdSpan, LoroList, LoroMap, LoroMovableList, LoroText, LoroTree,
    LoroValue, StyleConfig, StyleConfigMap, TreeParentId, VersionVector,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::tests::{found, found_in, writer};
use super::*;
use crate::rows::{LogRow, Rows, SnapshotRow};

const PEERS: [u64; 2] = [42, u64::MAX - 1];
const CASES: u64 = 48;
const STEPS: usize = 40;
const RESENDS: usize = 24;

const WORDS: [&str; 6] = ["a", "hello ", "ä", "你好", "👩‍👩‍👧 ", "\u{0}\n"];

fn word(random: &mut StdRng) -> &'static str {
    WORDS[random.random_range(0..WORDS.len())]
}

fn value(random: &mut StdRng) -> LoroValue {
    match random.random_range(0..9) {
        0 => LoroValue::Null,
        1 => LoroValue::Bool(random.random()),
        2 => LoroValue::I64(random.random()),
        3 => LoroValue::Double(random.random_range(-1e300..1e300)),
        4 => LoroValue::Double(f64::from_bits(random.random())),
        5 => LoroValue::Binary(vec![0, 255, random.random()].into()),
        6 => vec![value(random), value(random)].into(),
        7 => LoroValue::Map(
            [
                ("k".to_owned(), value(random)),
                ("l".to_owned(), value(random)),
            ]
            .into_iter()
            .collect::<std::collections::HashMap<_, _>>()
            .into(),
        ),
        _ => word(random).into(),
    }
}

fn edit_text(text: &LoroText, random: &mut StdRng) {
    let length = text.len_unicode();
    let at = random.random_range(0..=length);
    let end = random.random_range(at..=length);
    match random.random_range(0..8) {
        0..3 => text.insert(at, word(random)).unwrap(),
        // Backspaces, then the key that deletes forwards.
        3 => (end.saturating_sub(4).max(at)..end)
            .rev()
            .for_each(|at| text.delete(at, 1).unwrap()),
        4 => (at..end.min(at + 4)).for_each(|_| text.delete(at, 1).unwrap()),
        5 => text.delete(at, (end - at).min(5)).unwrap(),
        6 if end > at => text.mark(at..end, "bold", value(random)).unwrap(),
        _ if end > at => text.unmark(at..end, "bold").unwrap(),
        _ => text.insert(length, "end").unwrap(),
    }
}

fn edit_list(list: &LoroList, random: &mut StdRng) {
    let length = list.len();
    let at = random.random_range(0..=length);
    match random.random_range(0..6) {
        0..2 => list.insert(at, value(random)).unwrap(),
        2 => edit_text(&list.insert_container(at, LoroText::new()).unwrap(), random),
        3 => list.push("last").unwrap(),
        4 => (at.saturating_sub(3)..at)
            .rev()
            .for_each(|at| list.delete(at, 1).unwrap()),
        _ => list.delete(at, (length - at).min(3)).unwrap(),
    }
}

fn edit_movable(list: &LoroMovableList, random: &mut StdRng) {
    let length = list.len();
    let at = random.random_range(0..=length);
    match random.random_range(0..7) {
        2 if at < length => list.set(at, value(random)).unwrap(),
        3 if at < length => list.mov(at, random.random_range(0..length)).unwrap(),
        4 => (at.saturating_sub(3)..at)
            .rev()
            .for_each(|at| list.delete(at, 1).unwrap()),
        5 => list.delete(at, (length - at).min(3)).unwrap(),
        6 if at < length => {
            let map = list.set_container(at, LoroMap::new()).unwrap();
            map.insert("k", value(random)).unwrap();
        }
        _ => list.insert(at, value(random)).unwrap(),
    }
}

fn edit_tree(tree: &LoroTree, random: &mut StdRng) {
    tree.enable_fractional_index(0);
    let nodes = tree.get_nodes(false);
    let some = |random: &mut StdRng| {
        (!nodes.is_empty()).then(|| nodes[random.random_range(0..nodes.len())].id)
    };
    match (random.random_range(0..6), some(random), some(random)) {
        (0, Some(one), Some(other)) if one != other => drop(tree.mov(one, other)),
        (1, Some(one), Some(other)) if one != other => drop(tree.mov_after(one, other)),
        (2, Some(one), _) => tree.delete(one).unwrap(),
        (3, Some(one), _) => tree
            .get_meta(one)
            .unwrap()
            .insert("m", value(random))
            .unwrap(),
        (4, Some(one), _) => drop(tree.create(one).unwrap()),
        _ => drop(tree.create(TreeParentId::Root).unwrap()),
    }
}

fn edit(doc: &LoroDoc, random: &mut StdRng) {
    match random.random_range(0..8) {
        0..3 => edit_text(&doc.get_text("text"), random),
        3 => edit_list(&doc.get_list("list"), random),
        4 => edit_movable(&doc.get_movable_list("movable"), random),
        5 => edit_tree(&doc.get_tree("tree"), random),
        6 => {
            let counter = doc.get_counter("counter");
            counter.increment(random.random_range(-9.5..9.5)).unwrap();
        }
        _ => {
            let map = doc.get_map("map");
            let key = word(random);
            match random.random_range(0..4) {
                0 => map.delete(key).unwrap(),
                1 => edit_text(&map.insert_container(key, LoroText::new()).unwrap(), random),
                _ => map.insert(key, value(random)).unwrap(),
            }
        }
    }
}

/// A key that a user presses: a letter, typed after the one before, a backspace, or the key that deletes forwards.
#[derive(Debug, Clone, Copy)]
enum Key {
    Letter,
    Back,
    Forwards,
}

/// Presses a key at this place, in a text or a list, and returns the next place.
fn press(doc: &LoroDoc, container: u32, key: Key, at: usize) -> usize {
    let (text, list, movable) = (
        doc.get_text("text"),
        doc.get_list("list"),
        doc.get_movable_list("movable"),
    );
    let length = match container {
        0 => text.len_unicode(),
        1 => list.len(),
        _ => movable.len(),
    };
    let at = at.min(length);
    let delete = |at| match container {
        0 => text.delete(at, 1).unwrap(),
        1 => list.delete(at, 1).unwrap(),
        _ => movable.delete(at, 1).unwrap(),
    };
    match key {
        Key::Back if at > 0 => {
            delete(at - 1);
            at - 1
        }
        Key::Forwards if at < length => {
            delete(at);
            at
        }
        _ => {
            match container {
                0 => text.insert(at, "k").unwrap(),
                1 => list.insert(at, 1).unwrap(),
                _ => movable.insert(at, 1).unwrap(),
            }
            at + 1
        }
    }
}

/// Commits what was edited, and returns it as it is sent.
fn sent(doc: &LoroDoc, before: &VersionVector) -> Vec<u8> {
    doc.commit();
    doc.export(ExportMode::updates(before)).unwrap()
}

/// Edits two documents, each of which now and then imports what the other has, and returns all edits as they are sent.
fn edits(docs: &[LoroDoc; 2], random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut log = Vec::new();
    for step in 0..STEPS {
        let who = random.random_range(0..2);
        let doc = &docs[who];
        if random.random_range(0..4) == 0 {
            let key = [Key::Letter, Key::Back, Key::Forwards][random.random_range(0..3)];
            let (container, mut at) = (random.random_range(0..3), random.random_range(0..20));
            for _ in 0..random.random_range(2..6) {
                let before = doc.oplog_vv();
                at = press(doc, container, key, at);
                log.push(sent(doc, &before));
            }
            continue;
        }
        let before = doc.oplog_vv();
        for _ in 0..random.random_range(1..5) {
            edit(doc, random);
            match random.random_range(0..6) {
                0 => doc.commit(),
                // Such a change is not joined with the next one.
                1 => {
                    doc.set_next_commit_message(&step.to_string());
                    doc.commit();
                }
                _ => {}
            }
        }
        log.push(sent(doc, &before));
        if random.random_range(0..5) == 0 {
            let other = &docs[1 - who];
            let lacking = doc.export(ExportMode::updates(&other.oplog_vv())).unwrap();
            other.import(&lacking).unwrap();
        }
    }
    log
}

/// Exports a part of what a document has, or all of it.
fn resent(doc: &LoroDoc, random: &mut StdRng) -> Vec<u8> {
    let version = doc.oplog_vv();
    let ends = |random: &mut StdRng| -> Vec<(u64, i32)> {
        let ends = version.iter().map(|(peer, end)| (*peer, *end));
        ends.map(|(peer, end)| (peer, random.random_range(0..=end)))
            .collect()
    };
    let mode = match random.random_range(0..8) {
        0 => ExportMode::Snapshot,
        1 => ExportMode::all_updates(),
        2..5 => {
            let mut since = VersionVector::default();
            for (peer, end) in ends(random) {
                since.insert(peer, end);
            }
            return doc.export(ExportMode::updates(&since)).unwrap();
        }
        _ => {
            let spans = ends(random).into_iter().zip(ends(random));
            let spans = spans.filter(|((_, one), (_, other))| one != other);
            let spans: Vec<IdSpan> = spans
                .map(|((peer, one), (_, other))| IdSpan::new(peer, one.min(other), one.max(other)))
                .collect();
            return doc.export(ExportMode::updates_in_range(spans)).unwrap();
        }
    };
    doc.export(mode).unwrap()
}

/// Makes a document that has all of this from others.
fn reader(blobs: &[Vec<u8>]) -> LoroDoc {
    let doc = LoroDoc::new();
    for blob in blobs {
        doc.import(blob).unwrap();
    }
    doc
}

/// The same room: as it came, as one update, and as a snapshot with what came after it.
fn rooms(log: &[Vec<u8>], random: &mut StdRng) -> [Rows; 3] {
    let rows = |log: &[Vec<u8>]| -> Vec<LogRow> {
        let log = (1..).zip(log.iter().cloned());
        log.map(|(rev, payload)| LogRow { rev, payload }).collect()
    };
    let cut = random.random_range(1..log.len());
    let stored = reader(&log[..cut]);
    let snapshot = SnapshotRow {
        rev: 1,
        blob: stored.export(ExportMode::Snapshot).unwrap(),
        has_state: true,
        version: stored.oplog_vv().encode(),
    };
    let joined = reader(log).export(ExportMode::all_updates()).unwrap();
    [
        Rows {
            log: rows(log),
            ..Rows::default()
        },
        Rows {
            log: rows(&[joined]),
            ..Rows::default()
        },
        Rows {
            snapshot: Some(snapshot),
            log: rows(&log[cut..]),
            ..Rows::default()
        },
    ]
}

#[test]
fn no_resend_is_a_conflict_whatever_it_holds_and_however_it_is_cut() {
    for seed in 0..CASES {
        let random = &mut StdRng::seed_from_u64(seed);
        let docs = PEERS.map(writer);
        for doc in &docs {
            let mut styles = StyleConfigMap::new();
            let expand = ExpandType::Both;
            styles.insert("bold".into(), StyleConfig { expand });
            doc.config_text_style(styles);
        }
        let log = edits(&docs, random);
        let histories = rooms(&log, random).map(|rows| History::of(&rows).unwrap());
        let short = &log[..log.len() / 2];
        let all = reader(&log);
        for n in 0..RESENDS {
            let who = [&docs[0], &docs[1], &all][random.random_range(0..3)];
            let update = match random.random_range(0..4) {
                0 => log[random.random_range(0..log.len())].clone(),
                1 => resent(&reader(&[resent(who, random)]), random),
                _ => resent(who, random),
            };
            for (room, history) in histories.iter().enumerate() {
                let conflict = found_in(history, &update);
                assert_eq!(conflict, None, "seed {seed}, resend {n}, room {room}");
            }
            // The update goes on beyond what is stored.
            assert_eq!(found(short, &update), None, "seed {seed}, resend {n}");
        }
    }
}

/// The comparison sees a difference in each kind of container.
#[test]
fn one_other_operation_of_any_kind_is_a_conflict() {
    let mut differences = 0;
    for seed in 0..CASES {
        let random = &mut StdRng::seed_from_u64(seed);
        let docs = PEERS.map(writer);
        let log = edits(&docs, random);
        let common = reader(&log);
        let written = PEERS.map(|peer| {
            let version = common.oplog_vv();
            (peer, version.get(&peer).copied().unwrap_or(0))
        });
        // Two clients continue the same document under one peer id.
        let (peer, end) = written[random.random_range(0..2)];
        let twins = [common.fork(), common.fork()].map(|twin| {
            twin.set_peer_id(peer).unwrap();
            for _ in 0..3 {
                edit(&twin, random);
            }
            twin.commit();
            twin
        });
        let since = common.oplog_vv();
        let of_twins = twins
            .each_ref()
            .map(|twin| twin.export(ExportMode::updates(&since)).unwrap());
        let written = twins
            .each_ref()
            .map(|twin| twin.oplog_vv().get(&peer).copied().unwrap_or(0));
        let differs = twins[0].get_deep_value() != twins[1].get_deep_value();
        if !differs || written.contains(&end) {
            continue;
        }
        differences += 1;
        let stored = [&log[..], &of_twins[..1]].concat();
        let conflict = found(&stored, &of_twins[1]);
        let conflict = conflict.map(|id| (id.peer, id.counter >= end));
        assert_eq!(conflict, Some((peer, true)), "seed {seed}");
    }
    assert!(differences > CASES / 2, "{differences}");
}
