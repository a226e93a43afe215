//! The part that the whole app shares: the open databases.
//!
//! Database `default` is the file `sqlite_db.db`, any other `NAME` is `sqlite_NAME.db`, unless the operator put it on a
//! libSQL server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use super::database::Database;
use super::guest::Grant;
use super::libsql::Server;
use crate::runtime_config::Libsql;

/// A database that a component may open.
#[derive(Clone)]
pub(crate) enum Source {
    /// A file of this host.
    File(Arc<Database>),
    /// A libSQL server.
    Server(Arc<Server>),
}

/// The databases by name.
#[derive(Default)]
pub(crate) struct Databases(BTreeMap<String, Source>);

impl Databases {
    /// Opens the databases that are named. Files are created if they do not exist; nothing is sent to servers yet.
    pub(crate) fn open<'a>(
        state: &Path,
        names: impl IntoIterator<Item = &'a String>,
        servers: &BTreeMap<String, Libsql>,
    ) -> Result<Self> {
        let names: BTreeSet<&String> = names.into_iter().collect();
        let open = |name: &String| {
            let source = match servers.get(name) {
                Some(at) => {
                    let server = Server::new(at);
                    let server =
                        server.map_err(|error| anyhow!("sqlite_database.{name}: {error}"))?;
                    Source::Server(Arc::new(server))
                }
                None => {
                    let path = file(state, name);
                    let database =
                        Database::open(&path).with_context(|| path.display().to_string())?;
                    Source::File(database)
                }
            };
            Ok((name.clone(), source))
        };
        names.into_iter().map(open).collect::<Result<_>>().map(Self)
    }

    /// The part that a component may open.
    pub(crate) fn grant(&self, names: &BTreeSet<String>) -> Grant {
        let open = self.0.iter().filter(|(name, _)| names.contains(*name));
        Grant {
            databases: open
                .map(|(name, source)| (name.clone(), source.clone()))
                .collect(),
        }
    }

    /// The databases that are files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.0.values().filter_map(|source| match source {
            Source::File(database) => Some(database),
            Source::Server(_) => None,
        })
    }
}

fn file(state: &Path, name: &str) -> PathBuf {
    match name {
        "default" => state.join("sqlite_db.db"),
        name => state.join(format!("sqlite_{name}.db")),
    }
}
