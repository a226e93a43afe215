//! The depth of a document's values.
//!
//! Loro drops nested values and shows a document as JSON by recursion: some 3,000 levels overflow the stack of a Wasm
//! instance, and nothing can report that. So the depth is measured first, with a stack of its own. Containers in
//! containers are imported, exported and dropped without recursion: a document of them may be deeper, but has no JSON.

use loro::{Container, LoroDoc, LoroValue, TreeParentId, ValueOrContainer};

/// The most levels of a document: containers in containers, nodes below nodes, and values in values.
pub(crate) const MOST_LEVELS: usize = 512;

/// The reason if a value lies deeper; it names [`MOST_LEVELS`].
pub(crate) const TOO_DEEP: &str = "its values are nested deeper than 512 levels";

/// A value or a container that is still to be visited.
enum Visit {
    Value(LoroValue),
    Container(Container),
}

/// Checks that nothing in the document's state lies deeper than [`MOST_LEVELS`].
///
/// # Errors
/// The reason for a refusal, in words.
pub(crate) fn check(doc: &LoroDoc) -> Result<(), String> {
    let mut visits = vec![(Visit::Value(doc.get_value()), 0)];
    while let Some((visit, level)) = visits.pop() {
        if level > MOST_LEVELS {
            return Err(TOO_DEEP.to_owned());
        }
        match visit {
            Visit::Value(LoroValue::List(values)) => {
                visits.extend(values.iter().filter_map(|value| below(value, level)));
            }
            Visit::Value(LoroValue::Map(values)) => {
                visits.extend(values.values().filter_map(|value| below(value, level)));
            }
            Visit::Value(LoroValue::Container(id)) => {
                let container = doc.get_container(id);
                visits.extend(container.map(|container| (Visit::Container(container), level)));
            }
            Visit::Value(_) => {}
            Visit::Container(container) => {
                children(&container, |child| match child {
                    ValueOrContainer::Value(value) => visits.extend(below(&value, level)),
                    ValueOrContainer::Container(child) => {
                        visits.push((Visit::Container(child), level + 1));
                    }
                });
                if let Container::Tree(tree) = container {
                    nodes(&tree, level, &mut visits)?;
                }
            }
        }
    }
    Ok(())
}

/// Returns the visit to a value below one of this level, if anything can lie below the value.
fn below(value: &LoroValue, level: usize) -> Option<(Visit, usize)> {
    let nests = matches!(
        value,
        LoroValue::List(_) | LoroValue::Map(_) | LoroValue::Container(_)
    );
    nests.then(|| (Visit::Value(value.clone()), level + 1))
}

fn children(container: &Container, mut child: impl FnMut(ValueOrContainer)) {
    match container {
        Container::Map(map) => map.for_each(|_, value| child(value)),
        Container::List(list) => list.for_each(child),
        Container::MovableList(list) => list.for_each(child),
        _ => {}
    }
}

/// Visits the nodes of a tree, from its roots downwards. Each level of nodes is two levels of JSON.
fn nodes(
    tree: &loro::LoroTree,
    level: usize,
    visits: &mut Vec<(Visit, usize)>,
) -> Result<(), String> {
    let mut parents = vec![(TreeParentId::Root, level)];
    while let Some((parent, level)) = parents.pop() {
        if level > MOST_LEVELS {
            return Err(format!("its tree has more than {MOST_LEVELS} levels"));
        }
        for node in tree.children(parent).unwrap_or_default() {
            if let Ok(meta) = tree.get_meta(node) {
                visits.push((Visit::Container(Container::Map(meta)), level + 2));
            }
            parents.push((TreeParentId::Node(node), level + 2));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::{ExportMode, LoroList, LoroMap, LoroTree};

    fn nested(levels: usize) -> LoroValue {
        let mut value = LoroValue::I64(1);
        for level in 0..levels {
            value = if level % 2 == 0 {
                LoroValue::List(vec![value].into())
            } else {
                LoroValue::Map([("a".to_owned(), value)].into_iter().collect())
            };
        }
        value
    }

    #[test]
    fn values_within_the_bound_pass_and_deeper_ones_do_not() {
        // The root's container is one level.
        for (levels, passes) in [
            (0, true),
            (1, true),
            (MOST_LEVELS - 1, true),
            (MOST_LEVELS, false),
            (MOST_LEVELS + 1, false),
        ] {
            let docs = [(); 4].map(|()| LoroDoc::new());
            let value = || nested(levels);
            docs[0].get_map("map").insert("x", value()).unwrap();
            docs[1].get_list("list").push(value()).unwrap();
            docs[2].get_movable_list("list").push(value()).unwrap();
            // The value has a level less here, because another container is below the root's.
            let map = docs[3].get_map("map");
            let map = map.insert_container("x", LoroMap::new()).unwrap();
            map.insert("x", nested(levels.saturating_sub(1))).unwrap();
            for (n, doc) in docs.iter().enumerate() {
                doc.commit();
                assert_eq!(check(doc).is_ok(), passes, "{n}: {levels}");
            }
        }
    }

    /// A node is two levels, and its data is below them.
    #[test]
    fn nodes_below_nodes_count_twice() {
        for (is_below, nodes, levels, passes) in [
            (false, 255, 1, true),
            (false, 255, 2, false),
            (false, 256, 0, false),
            (true, 255, 0, true),
            (true, 255, 1, false),
            (true, 254, 2, true),
            (true, 254, 3, false),
            (true, 256, 0, false),
        ] {
            let doc = LoroDoc::new();
            let tree = if is_below {
                let map = doc.get_map("map");
                map.insert_container("tree", LoroTree::new()).unwrap()
            } else {
                doc.get_tree("tree")
            };
            let mut node = tree.create(None).unwrap();
            for _ in 1..nodes {
                node = tree.create(node).unwrap();
            }
            let data = tree.get_meta(node).unwrap();
            data.insert("x", nested(levels)).unwrap();
            doc.commit();
            assert_eq!(check(&doc).is_ok(), passes, "{is_below} {nodes} {levels}");
        }
    }

    #[test]
    fn containers_and_nodes_count() {
        let doc = LoroDoc::new();
        let mut map = doc.get_map("map");
        let mut list = doc.get_list("list");
        let tree = doc.get_tree("tree");
        let mut node = tree.create(None).unwrap();
        for _ in 0..100 {
            map = map.insert_container("a", LoroMap::new()).unwrap();
            list = list.insert_container(0, LoroList::new()).unwrap();
            node = tree.create(node).unwrap();
        }
        check(&doc).unwrap();
        let text = doc.get_text("text");
        text.insert(0, "hello").unwrap();
        check(&doc).unwrap();
        for _ in 0..MOST_LEVELS {
            map = map.insert_container("a", LoroMap::new()).unwrap();
        }
        assert!(check(&doc).is_err());

        let doc = LoroDoc::new();
        let tree = doc.get_tree("tree");
        let mut node = tree.create(None).unwrap();
        for _ in 0..MOST_LEVELS {
            node = tree.create(node).unwrap();
        }
        assert!(check(&doc).unwrap_err().contains("tree"));
    }

    /// Checks that Loro and the app read, write and drop such a document without recursion. The stack has 50 bytes for
    /// each level, as the stack of an instance has for each of 20,000 levels.
    #[test]
    fn nested_containers_need_no_deep_stack() {
        const LEVELS: usize = 4000;
        const STACK: usize = LEVELS * 50;
        const AT_ONCE: usize = 250;
        let thread = std::thread::Builder::new().stack_size(STACK);
        let nested = thread.spawn(|| {
            let writer = LoroDoc::new();
            let mut updates = Vec::new();
            let mut map = writer.get_map("map");
            for _ in 0..LEVELS / AT_ONCE {
                let before = writer.oplog_vv();
                for _ in 0..AT_ONCE {
                    map = map.insert_container("a", LoroMap::new()).unwrap();
                }
                writer.commit();
                updates.push(writer.export(ExportMode::updates(&before)).unwrap());
            }
            let history = LoroDoc::new();
            history.detach();
            let doc = LoroDoc::new();
            for update in &updates {
                history.import(update).unwrap();
                doc.import(update).unwrap();
            }
            assert!(check(&doc).is_err());
            let snapshot = doc.export(ExportMode::Snapshot).unwrap();
            drop(doc);
            let doc = LoroDoc::new();
            doc.import(&snapshot).unwrap();
            assert!(check(&doc).is_err());
            let at_once = LoroDoc::new();
            at_once
                .import(&history.export(ExportMode::all_updates()).unwrap())
                .unwrap();
            doc.get_map("map").insert("b", 1).unwrap();
            doc.commit();
            let later = doc.export(ExportMode::Snapshot).unwrap();
            at_once.import(&later).unwrap();
        });
        nested.unwrap().join().unwrap();
    }
}
