//! The servers that ours is compared with. Each runs in its own process: this binary, started
//! again as `bench peer …`.

mod official;
mod plain;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use e2e::libsql::Libsql;
use tokio::net::TcpListener;

/// A server to compare with.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Peer {
    /// The official Rust server, in memory, with its defaults.
    Official,
    /// Reads a file and sends it to each client that connects.
    PlainFile {
        /// The path of the file.
        path: PathBuf,
    },
    /// Reads a blob from SQLite and sends it to each client that connects.
    PlainSqlite {
        /// The path of the database.
        path: PathBuf,
    },
    /// A libSQL server, each of whose answers takes a while.
    Libsql {
        /// The path of the database.
        path: PathBuf,
        /// The time of an answer before the statement is executed, in milliseconds.
        round_trip: u64,
    },
}

/// Serves as a peer until the process is killed. Prints its address on stdout, as our own server
/// does.
///
/// # Errors
/// If no port is free, or the server fails.
pub(crate) async fn serve(peer: Peer) -> Result<()> {
    if let Peer::Libsql { path, round_trip } = peer {
        let server = Libsql::start(&path, Duration::from_millis(round_trip));
        println!("ready {}", server.url());
        return std::future::pending().await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready http://{}", listener.local_addr()?);
    match peer {
        Peer::Official => official::serve(listener).await,
        Peer::PlainFile { path } => plain::serve(listener, plain::Source::File(path)).await,
        Peer::PlainSqlite { path } => plain::serve(listener, plain::Source::Sqlite(path)).await,
        Peer::Libsql { .. } => Ok(()),
    }
}

pub(crate) use plain::write_sources;
