//! The part of the manifest: the stores that a component may open, by name.

use std::collections::BTreeSet;

use crate::names;

/// Checks the names in `key_value_stores`.
pub(crate) fn stores(list: Vec<String>) -> Result<BTreeSet<String>, String> {
    names::labels("key_value_stores", list)
}
