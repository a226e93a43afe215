//! The part of the manifest: the databases that a component may open, by name.

use std::collections::BTreeSet;

use crate::names;

/// Checks the names in `sqlite_databases`.
pub(crate) fn databases(list: Vec<String>) -> Result<BTreeSet<String>, String> {
    names::labels("sqlite_databases", list)
}
