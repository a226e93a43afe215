//! A SQLite file and its connections.
//!
//! - A commit that was answered is on disk (WAL, `synchronous=FULL`).
//! - Connections are pooled. One guest uses a connection at a time, and it comes back with no open transaction. A
//!   connection that a guest changed in a way that outlives the guest (a PRAGMA, a temporary table) is closed instead.
//! - SQLite has one writer. Writers of this process queue for it in order, rather than sleeping and polling as
//!   SQLite's own busy handler does.
//! - A thread of its own makes the checkpoints, so that no commit pays for one.
//! - Calls block, so they run on blocking threads, and a guest that is stopped interrupts its call.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection as Sqlite, InterruptHandle, OpenFlags};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;

/// The time that the checkpoint thread rests after a checkpoint.
const PAUSE: Duration = Duration::from_millis(200);
/// The time that a writer waits for its turn.
const BUSY: Duration = Duration::from_secs(5);
/// The number of idle connections that are kept, each of which may hold 8 MiB of pages.
const IDLE: usize = 32;
/// The time for which a connection is kept that no guest needs, so that those which a storm has opened are closed after
/// it.
const KEPT: Duration = Duration::from_secs(10);
/// The pages in the WAL (4 KiB each) past which a checkpoint is due.
const CHECKPOINT_PAGES: u64 = 1000;
/// The pages past which writers wait for a checkpoint, so that the WAL cannot grow forever.
const WAL_PAGES: u64 = 16 * CHECKPOINT_PAGES;

/// An open SQLite file.
pub(crate) struct Database {
    path: PathBuf,
    /// The runtime whose threads run the statements. It also runs those of guests of a low priority, because a
    /// statement that writes holds up the other writers.
    runtime: Handle,
    /// The idle connections, the longest unused first.
    idle: Mutex<Vec<Idle>>,
    writer: Arc<Semaphore>,
    wal: Arc<Wal>,
    checkpointer: Mutex<Option<std::thread::JoinHandle<()>>>,
    checkpointer_ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// A connection that no guest uses, and the time since which none does.
struct Idle {
    connection: Connection,
    since: Instant,
}

/// The reports of commits to the checkpoint thread.
#[derive(Default)]
struct Wal {
    pages: AtomicU64,
    state: Mutex<WalState>,
    changed: Condvar,
}

#[derive(Default)]
struct WalState {
    due: bool,
    stop: bool,
}

impl Wal {
    fn committed(&self, pages: u64) {
        self.pages.store(pages, Relaxed);
        if pages >= CHECKPOINT_PAGES {
            let mut state = self.state.lock();
            if !state.due {
                state.due = true;
                self.changed.notify_one();
            }
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.path).finish()
    }
}

impl Database {
    /// Opens the file at `path` and creates it if it does not exist. It must be called within a tokio runtime.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Arc<Self>> {
        let database = Arc::new(Self {
            path: path.to_owned(),
            runtime: Handle::current(),
            idle: Mutex::default(),
            writer: Arc::new(Semaphore::new(1)),
            wal: Arc::default(),
            checkpointer: Mutex::default(),
            checkpointer_ended: Mutex::default(),
        });
        let first = database.connect()?;
        database.give_back(first);
        let own = open(path)?;
        let (wal, writer) = (Arc::clone(&database.wal), Arc::clone(&database.writer));
        let runtime = Handle::current();
        let (running, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || {
                // The end of the thread, also by a panic, drops it.
                let _running: oneshot::Sender<()> = running;
                checkpoints(&own, &wal, &writer, &runtime);
            })
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        *database.checkpointer.lock() = Some(thread);
        *database.checkpointer_ended.lock() = Some(ended);
        Ok(database)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves at the end of the checkpoint thread, but only for the first caller.
    pub(crate) fn checkpoints_ended(&self) -> impl Future<Output = ()> + use<> {
        let ended = self.checkpointer_ended.lock().take();
        async {
            match ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        }
    }

    /// Closes the idle connections and empties the WAL into the file.
    pub(crate) fn close(&self) {
        self.wal.state.lock().stop = true;
        self.wal.changed.notify_one();
        self.idle.lock().clear();
        if let Some(thread) = self.checkpointer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!(file = %self.path.display(), "the checkpoint thread had panicked");
        }
    }

    /// Lends a connection; give it back with [`Database::give_back`].
    pub(crate) fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(idle) => Ok(idle.connection),
            None => self.connect(),
        }
    }

    /// Takes a connection back. An open transaction is rolled back, and a connection that a guest changed for good is
    /// closed.
    pub(crate) fn give_back(&self, mut connection: Connection) {
        let clean = connection.sqlite.is_autocommit()
            || connection.sqlite.execute_batch("ROLLBACK").is_ok();
        connection.turn = None;
        if clean && !connection.changed.load(Relaxed) {
            self.keep(connection);
        }
    }

    /// Keeps a connection, and closes those that were not needed for a while.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        let old = idle
            .iter()
            .take_while(|idle| idle.since.elapsed() >= KEPT)
            .count();
        let closed: Vec<Idle> = idle.drain(..old).collect();
        if idle.len() < IDLE {
            let since = Instant::now();
            idle.push(Idle { connection, since });
        }
        drop(idle);
        // Closing takes a while, and other threads need the lock.
        drop(closed);
    }

    /// Starts work that blocks, on a thread that may block.
    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn_blocking(work)
    }

    /// Runs `work` on a connection of its own, on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let database = Arc::clone(self);
        let result = self.spawn_blocking(move || {
            let mut connection = database.take()?;
            let result = work(&mut connection);
            database.give_back(connection);
            result
        });
        result.await.unwrap_or(Err(rusqlite::Error::InvalidQuery))
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let mut sqlite = open(&self.path)?;
        let wal = Arc::clone(&self.wal);
        sqlite.wal_hook(Some(
            move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                wal.committed(u64::try_from(pages).unwrap_or(0));
                Ok(())
            },
        ))?;
        let changed = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&changed);
        sqlite.authorizer(Some(move |context: AuthContext<'_>| {
            authorize(&context, &note)
        }))?;
        Ok(Connection {
            interrupt: Arc::new(sqlite.get_interrupt_handle()),
            sqlite,
            writer: Arc::clone(&self.writer),
            turn: None,
            changed,
        })
    }
}

/// Refuses other files, and notes what would stay on a connection after its guest.
fn authorize(context: &AuthContext<'_>, changed: &AtomicBool) -> Authorization {
    match context.action {
        AuthAction::Attach { filename } => {
            changed.store(true, Relaxed);
            match filename {
                "" | ":memory:" => Authorization::Allow,
                _ => Authorization::Deny,
            }
        }
        AuthAction::Pragma {
            pragma_value: Some(_),
            ..
        }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::Detach { .. } => {
            changed.store(true, Relaxed);
            Authorization::Allow
        }
        _ => Authorization::Allow,
    }
}

fn open(path: &Path) -> rusqlite::Result<Sqlite> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = Sqlite::open_with_flags(path, flags)?;
    sqlite.busy_timeout(BUSY)?;
    sqlite.pragma_update(None, "journal_mode", "WAL")?;
    sqlite.pragma_update(None, "synchronous", "FULL")?;
    sqlite.pragma_update(None, "wal_autocheckpoint", 0)?;
    sqlite.pragma_update(None, "cache_size", -8192)?;
    sqlite.set_prepared_statement_cache_capacity(64);
    Ok(sqlite)
}

/// Moves pages from the WAL to the file when there are many, and all of them at the end. The checkpoint thread runs
/// this.
fn checkpoints(own: &Sqlite, wal: &Wal, writer: &Arc<Semaphore>, runtime: &Handle) {
    let checkpoint = |mode: &str| {
        let counts = own.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        if let Err(error) = counts {
            tracing::warn!("a checkpoint failed, the next one catches up: {error}");
        }
    };
    let mut state = wal.state.lock();
    loop {
        if state.stop {
            break;
        }
        if !state.due {
            wal.changed.wait(&mut state);
            continue;
        }
        drop(state);
        // Copying does not hold up a writer.
        checkpoint("PASSIVE");
        if wal.pages.load(Relaxed) >= WAL_PAGES {
            // Under steady writes the WAL would never start anew, so the writers are held up while the little that
            // they wrote meanwhile is copied.
            let turn = wait_for_turn(runtime, writer);
            checkpoint("RESTART");
            drop(turn);
        }
        state = wal.state.lock();
        state.due = false;
        // Under load, checkpoints without a pause would take the disk from the commits.
        wal.changed
            .wait_while_for(&mut state, |state| !state.stop, PAUSE);
    }
    drop(state);
    checkpoint("TRUNCATE");
}

/// Waits, at most [`BUSY`], until no other writer of this process is at work. It blocks.
fn wait_for_turn(runtime: &Handle, writer: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(turn) = Arc::clone(writer).try_acquire_owned() {
        return Some(turn);
    }
    let turn = Arc::clone(writer).acquire_owned();
    runtime
        .block_on(async { tokio::time::timeout(BUSY, turn).await })
        .ok()?
        .ok()
}

/// A connection of the pool.
pub(crate) struct Connection {
    sqlite: Sqlite,
    interrupt: Arc<InterruptHandle>,
    writer: Arc<Semaphore>,
    /// The writer's turn, held from a transaction's first write to its end.
    turn: Option<OwnedSemaphorePermit>,
    /// The flag that is set once a guest has changed the connection for good.
    changed: Arc<AtomicBool>,
}

impl Connection {
    /// The handle by which another thread stops what the connection is doing.
    pub(crate) fn interrupter(&self) -> Arc<InterruptHandle> {
        Arc::clone(&self.interrupt)
    }

    /// Prepares `sql`, or takes it from the cache, and runs `work` with the statement. A statement that writes waits for
    /// its turn first.
    pub(crate) fn statement<T>(
        &mut self,
        sql: &str,
        work: impl FnOnce(&mut rusqlite::Statement<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut statement = self.sqlite.prepare_cached(sql)?;
        if !statement.readonly() && self.turn.is_none() {
            self.turn = Some(wait_for_turn(&Handle::current(), &self.writer).ok_or_else(busy)?);
        }
        let result = work(&mut statement);
        drop(statement);
        if self.sqlite.is_autocommit() {
            self.turn = None;
        }
        result
    }
}

fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        Some("database is locked".into()),
    )
}
