use std::thread;

use loro::{ExpandType, ExportMode, LoroDoc, LoroValue, StyleConfig, StyleConfigMap};

use super::*;
use crate::update;

/// The bytes of stack with which Loro can make values that are nested so deeply.
const STACK: usize = 512 << 20;

fn nested(levels: usize) -> LoroValue {
    let mut value = LoroValue::I64(1);
    for level in 0..levels {
        value = if level % 2 == 0 {
            LoroValue::List(vec![true.into(), value].into())
        } else {
            LoroValue::Map([("a".to_owned(), value)].into_iter().collect())
        };
    }
    value
}

const PLACES: [&str; 5] = ["map", "list", "movable", "set", "mark"];

/// Makes a document with a value of this many levels in this place, and overwrites the value if asked to.
fn document(place: &str, levels: usize, overwritten: bool) -> LoroDoc {
    let doc = LoroDoc::new();
    let value = nested(levels);
    match place {
        "map" => {
            let map = doc.get_map("map");
            map.insert("x", value).unwrap();
            if overwritten {
                map.insert("x", 1).unwrap();
            }
        }
        "list" => {
            let list = doc.get_list("list");
            list.insert(0, 1).unwrap();
            list.insert(1, value).unwrap();
            if overwritten {
                list.delete(0, 2).unwrap();
            }
        }
        "movable" | "set" => {
            let list = doc.get_movable_list("list");
            if place == "set" {
                list.insert(0, "words").unwrap();
                doc.commit();
                list.set(0, value).unwrap();
            } else {
                list.insert(0, value).unwrap();
            }
            if overwritten {
                list.set(0, 1).unwrap();
            }
        }
        _ => {
            let mut styles = StyleConfigMap::new();
            let expand = ExpandType::After;
            styles.insert("note".into(), StyleConfig { expand });
            doc.config_text_style(styles);
            let text = doc.get_text("text");
            text.insert(0, "hello").unwrap();
            text.mark(0..5, "note", value).unwrap();
            if overwritten {
                text.delete(0, 5).unwrap();
            }
        }
    }
    doc.commit();
    doc
}

fn deep(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK).spawn(test);
    thread.unwrap().join().unwrap();
}

#[test]
fn the_deepest_value_passes_and_one_level_more_does_not_wherever_it_is() {
    deep(|| {
        for place in PLACES {
            for overwritten in [false, true] {
                for (levels, passes) in [(1, true), (MOST_OF_A_VALUE, true), (MOST_LEVELS, false)] {
                    let doc = document(place, levels, overwritten);
                    for mode in [ExportMode::all_updates(), ExportMode::Snapshot] {
                        let update = doc.export(mode).unwrap();
                        let checked = update::check(&update).map(drop);
                        let expected = if passes { Ok(()) } else { Err(TOO_DEEP.into()) };
                        assert_eq!(checked, expected, "{place} {overwritten} {levels}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_deep_value_that_waits_for_other_updates_is_refused() {
    deep(|| {
        let doc = document("map", 1, false);
        let version = doc.oplog_vv();
        doc.get_map("map").insert("y", nested(MOST_LEVELS)).unwrap();
        doc.commit();
        let update = doc.export(ExportMode::updates(&version)).unwrap();
        assert_eq!(update::check(&update), Err(TOO_DEEP.to_owned()));
    });
}

#[test]
fn a_deep_value_is_found_behind_a_block_that_is_not_read() {
    deep(|| {
        let doc = document("map", 2 * MOST_LEVELS, false);
        let update = doc.export(ExportMode::all_updates()).unwrap();
        let mut blocks = Reader(&update);
        assert!(matches!(blocks.kind(), Some(Kind::Updates)));
        let block = blocks.counted().unwrap();
        let check = |blocks: &[&[u8]]| check_blocks(blocks.iter().copied().map(Ok));
        assert_eq!(check(&[b"?"]), Err(Flaw::NotRead));
        assert_eq!(check(&[b"?", block]), Err(Flaw::TooDeep));
    });
}

#[test]
fn hundred_thousand_levels_are_refused_with_a_small_stack() {
    deep(|| {
        for place in PLACES {
            let doc = document(place, 100_000, true);
            let update = doc.export(ExportMode::all_updates()).unwrap();
            let small = thread::Builder::new().stack_size(128 << 10);
            let checked = small.spawn(move || update::check(&update));
            let checked = checked.unwrap().join().unwrap();
            assert_eq!(checked, Err(TOO_DEEP.to_owned()), "{place}");
        }
    });
}

#[test]
fn every_kind_of_operation_is_read() {
    let doc = LoroDoc::new();
    let tree = doc.get_tree("tree");
    let nodes: Vec<_> = (0..3).map(|_| tree.create(None).unwrap()).collect();
    tree.mov(nodes[1], nodes[0]).unwrap();
    tree.delete(nodes[2]).unwrap();
    let map = doc.get_map("map");
    let values = [
        LoroValue::Null,
        true.into(),
        false.into(),
        1_000_000_i64.into(),
        i64::MIN.into(),
        i64::MAX.into(),
        1.5.into(),
        "words".into(),
        vec![1_u8, 2, 3].into(),
        LoroValue::List(vec![].into()),
        LoroValue::Map(Default::default()),
    ];
    for (key, value) in values.iter().enumerate() {
        map.insert(&key.to_string(), value.clone()).unwrap();
    }
    map.insert("all", LoroValue::List(values.to_vec().into()))
        .unwrap();
    map.delete("all").unwrap();
    map.insert_container("text", loro::LoroText::new()).unwrap();
    let list = doc.get_movable_list("list");
    for value in &values {
        list.push(value.clone()).unwrap();
    }
    list.mov(0, 3).unwrap();
    list.set(1, nested(3)).unwrap();
    list.delete(0, 2).unwrap();
    let text = doc.get_text("text");
    text.insert(0, "hello hello").unwrap();
    text.delete(2, 3).unwrap();
    doc.get_counter("counter").increment(2.5).unwrap();
    doc.get_counter("counter").increment(300.0).unwrap();
    doc.commit();
    let update = doc.export(ExportMode::all_updates()).unwrap();
    let mut blocks = Reader(&update);
    assert!(matches!(blocks.kind(), Some(Kind::Updates)));
    while !blocks.0.is_empty() {
        check_block(blocks.counted().unwrap()).unwrap();
    }
}

#[test]
fn an_update_with_many_levels_none_of_which_is_deep_passes() {
    let doc = LoroDoc::new();
    let list = doc.get_list("list");
    for _ in 0..2 * MOST_LEVELS {
        list.push(nested(3)).unwrap();
    }
    doc.commit();
    let update = doc.export(ExportMode::all_updates()).unwrap();
    update::check(&update).unwrap();
    let cut = &update[..update.len() - 1];
    assert_eq!((measure(cut), check(cut)), (Err(Flaw::NotRead), Ok(())));
}

/// Checks also the kinds of operations that only earlier releases of Loro write. A value here is a list in a map.
#[test]
fn an_operation_is_read_to_its_end() {
    const TWO: &[u8] = &[0x81, 0x01];
    const VALUE: &[u8] = &[MAP, 1, 0, LIST, 2, 2, 0];
    let cases: [(u8, &[&[u8]], usize); 20] = [
        (0, &[], 0),
        (1, &[], 0),
        (2, &[], 0),
        (3, &[TWO], 0),
        (4, &[&[0xff; 8]], 0),
        (5, &[&[2], b"hi"], 0),
        (6, &[&[3], &[0xff; 3]], 0),
        (7, &[TWO], 0),
        (8, &[], 0),
        (9, &[], 0),
        (10, &[TWO], 0),
        (11, &[VALUE], 2),
        (12, &[&[0xff], TWO, TWO, VALUE], 2),
        (13, &[TWO, &[1], TWO], 0),
        (13, &[TWO, &[0], TWO, TWO], 0),
        (14, &[TWO, TWO, TWO], 0),
        (15, &[TWO, TWO, VALUE], 2),
        (16, &[TWO, TWO, TWO, &[1]], 0),
        (16, &[TWO, TWO, TWO, &[0], TWO, TWO], 0),
        (99, &[&[2], b"hi"], 0),
    ];
    for (kind, bytes, levels) in cases {
        let mut bytes = bytes.concat();
        bytes.push(0x80);
        let whole = bytes.len() - 1;
        // The first bit does not belong to the kind.
        for kind in [kind, kind | 0x80] {
            let mut reader = Reader(&bytes);
            assert_eq!(reader.operation(kind, 0), Ok(levels), "{kind}");
            assert_eq!(reader.0, [0x80], "{kind}");
            for cut in 0..whole {
                let cut = Reader(&bytes[..cut]).operation(kind, 0);
                assert_eq!(cut, Err(Flaw::NotRead), "{kind}");
            }
        }
    }
}

#[test]
fn a_value_of_any_kind_is_read_to_its_end() {
    for (value, levels) in [
        (&[0][..], 0),
        (&[1], 0),
        (&[2], 0),
        (&[3, 0x81, 0x01], 0),
        (&[4, 1, 2, 3, 4, 5, 6, 7, 8], 0),
        (&[5, 2, 7, 7], 0),
        (&[6, 2, 8, 8], 0),
        (&[9, 7], 0),
        (&[LIST, 0], 1),
        (&[MAP, 0], 1),
        (&[LIST, 2, LIST, 1, 0, MAP, 1, 0x81, 0x01, LIST, 0], 3),
    ] {
        let bytes = [value, &[0]].concat();
        let mut reader = Reader(&bytes);
        assert_eq!((reader.value(), reader.0), (Ok(levels), &[0][..]));
    }
    for unknown in [10, 0xff] {
        assert_eq!(Reader(&[unknown, 0]).value(), Err(Flaw::NotRead));
    }
}

#[test]
fn a_number_has_seven_bits_a_byte() {
    for (bytes, number) in [
        (&[0][..], Ok(0)),
        (&[0x7f], Ok(127)),
        (&[0x80, 1], Ok(128)),
        (&[0xff, 0xff, 3], Ok(0xffff)),
        (
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            Ok(u64::MAX),
        ),
        (&[0x80; 10], Err(Flaw::NotRead)),
        (&[0x80], Err(Flaw::NotRead)),
    ] {
        assert_eq!(Reader(bytes).number(), number, "{bytes:?}");
    }
}
