//! The least that a join can cost: read the bytes, and send them in one WebSocket message. There is
//! no room, no version and no Loro, and clients that connect at once share nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use rusqlite::Connection;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// The place that holds the bytes.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The whole file.
    File(PathBuf),
    /// The only row of the table `state`.
    Sqlite(PathBuf),
}

/// Writes `bytes` as a file and as a database for the plain servers.
///
/// # Errors
/// If either cannot be written.
pub(crate) fn write_sources(bytes: &[u8], dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let (file, database) = (dir.join("plain.bin"), dir.join("plain.db"));
    std::fs::write(&file, bytes)?;
    let connection = Connection::open(&database)?;
    connection.execute_batch("DROP TABLE IF EXISTS state; CREATE TABLE state (bytes BLOB)")?;
    connection.execute("INSERT INTO state VALUES (?1)", [bytes])?;
    Ok((file, database))
}

impl Source {
    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path).context("read the file"),
            Self::Sqlite(path) => Connection::open(path)?
                .query_row("SELECT bytes FROM state", [], |row| row.get(0))
                .context("read the row"),
        }
    }
}

/// Serves until the process is killed.
///
/// # Errors
/// If no more connections can be accepted.
pub(super) async fn serve(listener: TcpListener, source: Source) -> Result<()> {
    let source = Arc::new(source);
    loop {
        let (stream, _) = listener.accept().await?;
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            if let Err(error) = send(stream, source).await {
                eprintln!("plain: {error:#}");
            }
        });
    }
}

async fn send(stream: TcpStream, source: Arc<Source>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async(stream).await?;
    let bytes = tokio::task::spawn_blocking(move || source.read()).await??;
    socket.send(Message::binary(bytes)).await?;
    // The client closes the connection once it has everything.
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
