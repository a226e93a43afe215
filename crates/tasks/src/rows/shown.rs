//! The nodes that have shown a version of a task.

use std::collections::BTreeSet;

/// The most nodes that a row remembers.
const MOST: usize = 256;

/// The most bytes of their ids.
const MOST_BYTES: usize = 16 * 1024;

/// The ids of the nodes that have shown one version of a task, so that what a user writes into one of them afterwards is
/// not overwritten. At most 256 ids and 16 KiB are remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    nodes: BTreeSet<String>,
    bytes: usize,
    is_full: bool,
}

impl Shown {
    /// Notes that a node has shown the version.
    pub fn add(&mut self, node: &str) {
        if self.nodes.contains(node) {
            return;
        }
        if self.nodes.len() == MOST || self.bytes + node.len() > MOST_BYTES {
            self.is_full = true;
            return;
        }
        self.bytes += node.len();
        self.nodes.insert(node.to_owned());
    }

    /// Returns whether a node has shown the version. If there are more nodes than are remembered, each may have.
    pub fn may_include(&self, node: &str) -> bool {
        self.is_full || self.nodes.contains(node)
    }

    /// The form in which the row keeps it: a JSON array, with a null at its end if it is not complete.
    pub(super) fn to_json(&self) -> String {
        let nodes = self.nodes.iter().map(|node| Some(node.as_str()));
        let more = self.is_full.then_some(None);
        let all: Vec<Option<&str>> = nodes.chain(more).collect();
        serde_json::to_string(&all).unwrap_or_default()
    }

    /// Reads the form that the row keeps. Anything else names no node.
    pub(super) fn from_json(text: &str) -> Self {
        let all: Vec<Option<String>> = serde_json::from_str(text).unwrap_or_default();
        let mut shown = Self {
            is_full: all.contains(&None),
            ..Self::default()
        };
        for node in all.iter().flatten() {
            shown.add(node);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_a_limited_number_of_nodes_and_then_assumes_that_every_node_has_shown_it() {
        let mut shown = Shown::default();
        for n in 0..MOST {
            assert!(!shown.may_include(&n.to_string()));
            shown.add(&n.to_string());
        }
        assert!(!shown.may_include("one more"));
        assert_eq!(Shown::from_json(&shown.to_json()), shown);
        shown.add("one more");
        assert!(shown.may_include("one more") && shown.may_include("another"));
        assert_eq!(Shown::from_json(&shown.to_json()), shown);

        let mut large = Shown::default();
        for node in ["a", "b"] {
            large.add(&node.repeat(8 * 1024));
        }
        assert!(!large.may_include("c"), "16 KiB are remembered");
        large.add("c");
        assert!(large.may_include("any"));

        let mut long = Shown::default();
        long.add(&"x".repeat(MOST_BYTES + 1));
        assert!(long.may_include("any") && long.to_json() == "[null]");
        assert_eq!(Shown::from_json("nonsense"), Shown::default());
    }
}
