//! `cargo xtask backup` and `cargo xtask restore`: the databases of a state folder, of `loro-host` or of a Spin.
//!
//! SQLite itself copies, through its program `sqlite3`, in one read transaction. So the server goes on meanwhile, and the
//! copy holds every update that was acknowledged before the command began.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// How long `sqlite3` waits for a database that is locked, in milliseconds. Readers wait only while another program
/// recovers it.
const PATIENCE: &str = ".timeout 10000";

/// The options of `cargo xtask backup`.
#[derive(Args)]
pub(crate) struct Backup {
    /// The folder to make; it must not exist yet
    folder: PathBuf,
    /// The state folder: `.state` of loro-host, `.spin` of Spin
    #[arg(long, default_value = ".state")]
    state_dir: PathBuf,
}

/// The options of `cargo xtask restore`.
#[derive(Args)]
pub(crate) struct Restore {
    /// The folder that `cargo xtask backup` made
    folder: PathBuf,
    /// The state folder of a server that does not run; it must hold no database yet
    #[arg(long, default_value = ".state")]
    state_dir: PathBuf,
}

impl Backup {
    /// Copies the databases into a folder beside the final one, checks the copies, and then gives it its name. So a
    /// folder of that name is a whole backup.
    ///
    /// # Errors
    /// If there is no database, the folder exists, or a copy is not sound.
    pub(crate) fn run(self) -> Result<()> {
        if self.folder.exists() {
            bail!("{} exists already", self.folder.display());
        }
        let databases = databases(&self.state_dir)?;
        let partial = with_ending(&self.folder, ".partial");
        if partial.exists() {
            bail!(
                "{} is left of a backup that did not end: delete it",
                partial.display()
            );
        }
        private_folder(&partial).with_context(|| partial.display().to_string())?;
        for (name, database) in &databases {
            let copy = partial.join(name);
            let path = copy.to_str().context("the path is not UTF-8")?;
            let sql = format!("VACUUM INTO '{}'", path.replace('\'', "''"));
            sqlite3(database, &sql)?;
            settle(&copy)?;
        }
        fs::rename(&partial, &self.folder)?;
        sync_parent(&self.folder)?;
        report("backed up", &databases, &self.folder);
        Ok(())
    }
}

impl Restore {
    /// Copies the databases of a backup into a state folder, each under its name only once it is sound.
    ///
    /// # Errors
    /// If the state folder has a database already, or if one of the backup is missing or not sound.
    pub(crate) fn run(self) -> Result<()> {
        let backup = databases(&self.folder)?;
        if self.state_dir.exists() && databases(&self.state_dir).is_ok() {
            bail!(
                "{} holds databases: stop the server, and move them away first",
                self.state_dir.display()
            );
        }
        private_folder(&self.state_dir)?;
        let mut ready = Vec::new();
        for (name, database) in &backup {
            let (partial, last) = (
                self.state_dir.join(format!("{name}.partial")),
                self.state_dir.join(name),
            );
            fs::copy(database, &partial).with_context(|| database.display().to_string())?;
            // A copy that SQLite makes has no write-ahead log, and the app turns it on only when it makes the tables.
            sqlite3(&partial, "PRAGMA journal_mode = WAL")?;
            renew_projection_peers(&partial)?;
            settle(&partial)?;
            ready.push((partial, last));
        }
        for (partial, last) in ready {
            fs::rename(partial, &last)?;
            sync_parent(&last)?;
        }
        report("restored", &backup, &self.state_dir);
        Ok(())
    }
}

/// Lets the app write into each document under a new peer. Clients may have seen operations under the present one that
/// the backup lacks, and two operations must never have the same id.
fn renew_projection_peers(database: &Path) -> Result<()> {
    let has_peers = "SELECT 1 FROM sqlite_master WHERE name = 'loro_projection_peers'";
    if !sqlite3(database, has_peers)?.is_empty() {
        sqlite3(database, "DELETE FROM loro_projection_peers")?;
    }
    Ok(())
}

/// The databases in a folder, by their file names.
fn databases(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && name.starts_with("sqlite_")
            && name.ends_with(".db")
        {
            found.push((name.to_owned(), entry.path()));
        }
    }
    if found.is_empty() {
        bail!("{} holds no database", folder.display());
    }
    found.sort();
    Ok(found)
}

/// Makes a folder for this user alone.
fn private_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    Ok(())
}

/// Checks a copy, and puts it on disk, readable by this user alone.
fn settle(copy: &Path) -> Result<()> {
    let found = sqlite3(copy, "PRAGMA integrity_check")?;
    if found.trim() != "ok" {
        bail!("{} is not sound: {}", copy.display(), found.trim());
    }
    fs::set_permissions(copy, Permissions::from_mode(0o600))?;
    File::open(copy)?.sync_all()?;
    sync_parent(copy)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Ok(File::open(parent)?.sync_all()?)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Runs a statement, and returns what it answers.
fn sqlite3(database: &Path, sql: &str) -> Result<String> {
    let mut command = Command::new("sqlite3");
    command
        .args(["-batch", "-bail", "-init", "/dev/null"])
        .arg(database)
        .args([PATIENCE, sql]);
    let output = command
        .output()
        .context("`sqlite3` is needed; on Debian: apt-get install sqlite3")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", database.display(), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn report(done: &str, databases: &[(String, PathBuf)], folder: &Path) {
    for (name, _) in databases {
        let file = folder.join(name);
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        println!("{done} {} ({bytes} bytes)", file.display());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Stdio;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn made(folder: &Path) -> PathBuf {
        let database = folder.join("sqlite_db.db");
        sqlite3(&database, "PRAGMA journal_mode = WAL").unwrap();
        sqlite3(
            &database,
            "CREATE TABLE log (rev INTEGER PRIMARY KEY, payload BLOB)",
        )
        .unwrap();
        sqlite3(
            &database,
            "CREATE TABLE loro_projection_peers (project_id TEXT PRIMARY KEY, peer INTEGER);
             INSERT INTO loro_projection_peers VALUES ('p', 7)",
        )
        .unwrap();
        database
    }

    /// The rows of the app's own peers.
    fn peers(database: &Path) -> String {
        sqlite3(database, "SELECT * FROM loro_projection_peers").unwrap()
    }

    fn append(count: usize) -> String {
        let row = "INSERT INTO log (payload) VALUES (randomblob(1000));\n";
        format!("BEGIN;\n{}COMMIT;\n", row.repeat(count))
    }

    /// The count of rows, if they are 1 to that count.
    fn dense(database: &Path) -> u64 {
        let sql = "SELECT count(*), coalesce(max(rev), 0) FROM log";
        let found = sqlite3(database, sql).unwrap();
        let (count, last) = found.trim().split_once('|').unwrap();
        assert_eq!(count, last);
        count.parse().unwrap()
    }

    fn back_up(state_dir: &Path, folder: &Path) -> Result<()> {
        let (folder, state_dir) = (folder.to_owned(), state_dir.to_owned());
        Backup { folder, state_dir }.run()
    }

    fn restore(folder: &Path, state_dir: &Path) -> Result<()> {
        let (folder, state_dir) = (folder.to_owned(), state_dir.to_owned());
        Restore { folder, state_dir }.run()
    }

    /// Another process appends all the while. What was there before is in the copy, without gaps.
    #[test]
    fn a_backup_is_whole_while_another_process_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (state, backup) = (folder.path().join("it's"), folder.path().join("backup"));
        fs::create_dir(&state).unwrap();
        let database = made(&state);
        sqlite3(&database, &append(2000)).unwrap();
        let before = dense(&database);
        let mut writer = Command::new("sqlite3")
            .arg(&database)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = writer.stdin.take().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let start = b".timeout 10000\nPRAGMA synchronous = OFF;\n";
                input.write_all(start).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    input.write_all(append(10).as_bytes()).unwrap();
                }
                drop(input);
            });
            let result = back_up(&state, &backup);
            stop.store(true, Ordering::Relaxed);
            result.unwrap();
        });
        assert!(writer.wait().unwrap().success());
        let copied = dense(&backup.join("sqlite_db.db"));
        assert!((before..=dense(&database)).contains(&copied), "{copied}");

        let restored = folder.path().join("new/state");
        restore(&backup, &restored).unwrap();
        assert_eq!(peers(&backup.join("sqlite_db.db")).trim(), "p|7");
        let database = restored.join("sqlite_db.db");
        assert_eq!(peers(&database), "", "the app writes under new peers");
        assert_eq!(dense(&database), copied);
        assert_eq!(
            sqlite3(&database, "PRAGMA journal_mode").unwrap().trim(),
            "wal"
        );
        let mode = fs::metadata(&database).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (state, backup) = (folder.path().join("state"), folder.path().join("backup"));
        fs::create_dir(&state).unwrap();
        let refused = back_up(&state, &backup).unwrap_err().to_string();
        assert!(refused.contains("no database"), "{refused}");
        let database = made(&state);
        back_up(&state, &backup).unwrap();
        let refused = back_up(&state, &backup).unwrap_err().to_string();
        assert!(refused.contains("exists already"), "{refused}");
        sqlite3(&database, &append(1)).unwrap();
        let refused = restore(&backup, &state).unwrap_err().to_string();
        assert!(refused.contains("holds databases"), "{refused}");
        assert_eq!(dense(&database), 1);
    }

    #[test]
    fn a_backup_that_is_not_sound_is_not_restored() {
        let folder = tempfile::tempdir().unwrap();
        let (state, backup) = (folder.path().join("state"), folder.path().join("backup"));
        fs::create_dir(&backup).unwrap();
        let database = made(&backup);
        sqlite3(&database, &append(100)).unwrap();
        sqlite3(&database, "PRAGMA journal_mode = DELETE").unwrap();
        let mut bytes = fs::read(&database).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(0xff);
        fs::write(&database, bytes).unwrap();
        restore(&backup, &state).unwrap_err();
        assert!(!state.join("sqlite_db.db").exists());
    }
}
