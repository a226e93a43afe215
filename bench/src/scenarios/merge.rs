//! The compaction, the rejoin and the merge of logs that are hard to merge, through the real component.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::Method;
use loro::LoroDoc;
use rusqlite::{Connection, params};

use super::sides::Bench;
use crate::http::Http;
use crate::native;
use crate::shapes::{Shape, version};
use crate::table::{Cell, Row, Target};
use crate::updates;

/// The time that a merge may take until the bench says that the room stays a blob.
const PATIENCE: Duration = Duration::from_secs(150);

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let bytes = if bench.quick { 1 << 20 } else { 4 << 20 };
    let state = bench.places.state_dir("merge")?;
    let server = bench.places.start_app(&state)?;
    // The first request makes the schema.
    Http::connect(server.address)
        .await?
        .send(Method::GET, "/health", Bytes::new())
        .await?;
    let database = state.join("sqlite_db.db");
    let (full, snapshot) = updates::document(bytes)?;
    let empty = LoroDoc::new();
    let mut rows = Vec::new();
    for (number, shape) in Shape::ALL.into_iter().enumerate() {
        for (base, blob) in [(&empty, None), (&full, Some(&snapshot[..]))] {
            let log = shape.updates(base, bytes)?;
            let beneath = if blob.is_some() {
                ", snapshot beneath"
            } else {
                ""
            };
            let room = Room {
                project: format!("room-{number}-{}", blob.is_some()),
                words: format!("{}{beneath}", shape.words()),
                snapshot: blob,
                log,
            };
            eprintln!("  {}", room.words);
            let measured = room.measure(server.address, &database, base).await?;
            // The rows are logged now, because the table comes only after half an hour.
            for row in &measured {
                eprintln!("    {}: {} ({})", row.measure, row.ours, row.theirs);
            }
            rows.extend(measured);
        }
    }
    server.kill()?;
    Ok(rows)
}

struct Room<'a> {
    project: String,
    words: String,
    snapshot: Option<&'a [u8]>,
    log: Vec<Vec<u8>>,
}

impl Room<'_> {
    async fn measure(&self, app: SocketAddr, database: &Path, base: &LoroDoc) -> Result<Vec<Row>> {
        let empty;
        let snapshot = match self.snapshot {
            Some(snapshot) => snapshot,
            None => {
                empty = base.export(loro::ExportMode::Snapshot)?;
                &empty
            }
        };
        let folder = database.with_file_name("natively");
        let native = native::best(&folder, snapshot, &self.log).await?;
        let known = version(snapshot, &self.log[..self.log.len() - 1])?;
        let database = Connection::open(database)?;
        database.busy_timeout(Duration::from_secs(10))?;
        self.fill(&database, base)?;

        let project = &self.project;
        let compact = format!("/internal/rooms/{project}/compact");
        let compaction = timed(app, Method::POST, &compact).await?;
        let is_packed = self.is_packed(&database)?;
        let query = URL_SAFE_NO_PAD.encode(known.encode());
        let rejoin = format!("/internal/rooms/{project}/state?version={query}");
        let rejoin = timed(app, Method::GET, &rejoin).await?;
        let whole = timed(app, Method::GET, &format!("/sync/{project}")).await?;
        let merge: Cell = if is_packed {
            match self.merged(app, &database).await? {
                Some(seconds) => (seconds * 1000.0).into(),
                None => "stays a blob".into(),
            }
        } else {
            "with the compaction".into()
        };
        let row = |measure: &str, ours: Cell, theirs: Cell| {
            Row::new(
                "merge",
                format!("{measure}, ms: {}", self.words),
                ours,
                theirs,
            )
        };
        let native = native.map_or("over 120 s".into(), Cell::from);
        let both = merge.number().is_some() && native.number().is_some();
        let merge = row("merge; natively, the best way", merge, native);
        // A merge that comes with the compaction has its target there.
        let merge = if both {
            merge.must(Target::RatioAtMost(3.0))
        } else {
            merge
        };
        Ok(vec![
            row("compaction", compaction.into(), Cell::None).must(Target::AtMost(300.0)),
            row("rejoin", rejoin.into(), Cell::None).must(Target::AtMost(300.0)),
            row("GET", whole.into(), Cell::None),
            merge,
        ])
    }

    fn fill(&self, database: &Connection, base: &LoroDoc) -> Result<()> {
        database.execute_batch("BEGIN IMMEDIATE")?;
        database.execute(
            "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at)
             VALUES (?1, ?1, 'bench', unixepoch(), unixepoch())",
            [&self.project],
        )?;
        if let Some(snapshot) = self.snapshot {
            database.execute(
                "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev)
                 VALUES (?1, ?2, ?3, unixepoch(), 1)",
                params![self.project, snapshot, base.oplog_vv().encode()],
            )?;
        }
        for (number, update) in self.log.iter().enumerate() {
            database.execute(
                "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
                 VALUES (?1, ?2, ?3, 'bench', unixepoch())",
                params![self.project, i64::try_from(number)? + 2, update],
            )?;
        }
        database.execute_batch("COMMIT")?;
        Ok(())
    }

    fn is_packed(&self, database: &Connection) -> Result<bool> {
        let sql = "SELECT count(*) FROM loro_blobs WHERE project_id = ?1";
        let count: i64 = database.query_row(sql, [&self.project], |row| row.get(0))?;
        Ok(count > 0)
    }

    /// Waits until the room has a snapshot, and returns the seconds that this took; `None` if it stays a blob.
    async fn merged(&self, app: SocketAddr, database: &Connection) -> Result<Option<f64>> {
        let start = Instant::now();
        timed(app, Method::POST, "/internal/sweep").await?;
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while start.elapsed() < PATIENCE {
            looks.tick().await;
            if !self.is_packed(database)? {
                return Ok(Some(start.elapsed().as_secs_f64()));
            }
            let sql = "SELECT count(*) FROM loro_leases
                        WHERE project_id = ?1 AND work = 'merge' AND until <= unixepoch()";
            let failed: i64 = database.query_row(sql, [&self.project], |row| row.get(0))?;
            if failed > 0 {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// The milliseconds until the whole answer is there. The connection is a new one, because the app closes those that
/// are idle while the bench computes.
async fn timed(app: SocketAddr, method: Method, path: &str) -> Result<f64> {
    let mut http = Http::connect(app).await?;
    let start = Instant::now();
    let answer = http.send(method, path, Bytes::new()).await;
    answer.with_context(|| format!("after {:?}", start.elapsed()))?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}
