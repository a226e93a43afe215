//! `cargo xtask backup` and `cargo xtask restore`: the databases of a state folder, of `loro-host` or of a Spin.
//!
//! SQLite itself makes the copy, through its program `sqlite3`, in one read transaction. So the server can go on
//! running, and the copy holds every update that was acknowledged before the command began.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// The time that `sqlite3` waits for a database that is locked, in milliseconds. Readers wait only while another program
/// recovers it.
const PATIENCE: &str = ".timeout 10000";

/// The app's own database. Other databases belong to the host.
const MAIN: &str = "sqlite_db.db";

/// The ending of a copy that is not whole yet.
const PARTIAL: &str = ".partial";

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
        let partial = with_ending(&self.folder, PARTIAL);
        if partial.exists() {
            bail!(
                "{} is left over from a backup that did not end: delete it",
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
    /// Copies the databases of a backup into a state folder. They get their names only once all copies are sound, and a
    /// restore that fails leaves no file.
    ///
    /// # Errors
    /// If the state folder has a database already or a file of one, or if one of the backup is missing or not sound.
    pub(crate) fn run(self) -> Result<()> {
        let backup = databases(&self.folder)?;
        refuse_left_over(&self.folder)?;
        check_main(&self.folder)?;
        let is_new = !self.state_dir.exists();
        if !is_new {
            if databases(&self.state_dir).is_ok() {
                bail!(
                    "{} holds databases: stop the server, and move them away first",
                    self.state_dir.display()
                );
            }
            refuse_left_over(&self.state_dir)?;
        }
        private_folder(&self.state_dir)?;
        // An earlier restore that was killed may have left copies.
        remove_files(&self.state_dir, is_partial)?;
        if let Err(error) = self.fill(&backup) {
            remove_files(&self.state_dir, |name| {
                is_partial(name) || is_database(name)
            })?;
            if is_new {
                fs::remove_dir(&self.state_dir)?;
            }
            return Err(error);
        }
        report("restored", &backup, &self.state_dir);
        Ok(())
    }

    fn fill(&self, backup: &[(String, PathBuf)]) -> Result<()> {
        let mut ready = Vec::new();
        for (name, database) in backup {
            let (partial, last) = (
                self.state_dir.join(format!("{name}{PARTIAL}")),
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
        Ok(())
    }
}

/// Refuses a backup without the app's own database, before anything is written.
fn check_main(folder: &Path) -> Result<()> {
    let main = folder.join(MAIN);
    if !main.exists() {
        bail!(
            "{} is missing: the app's own database is not in this backup",
            main.display()
        );
    }
    // A file without bytes is an empty database to SQLite.
    let tables = "SELECT count(*) FROM sqlite_master
                   WHERE type = 'table' AND name IN ('schema_migrations', 'loro_snapshots')";
    if sqlite3(&main, tables)?.trim() != "2" {
        bail!("{} lacks the tables of the app", main.display());
    }
    Ok(())
}

/// Refuses a folder with a log or a journal of a database, because SQLite would apply it to another database of that
/// name.
fn refuse_left_over(folder: &Path) -> Result<()> {
    for (name, path) in files(folder)? {
        let endings = ["-wal", "-shm", "-journal"].iter();
        let mut databases = endings.filter_map(|ending| name.strip_suffix(ending));
        if databases.any(is_database) {
            bail!(
                "{} is left over from a database: stop its server, and move the file away first",
                path.display()
            );
        }
    }
    Ok(())
}

/// Removes the files of a folder whose names `is_such` accepts.
fn remove_files(folder: &Path, is_such: impl Fn(&str) -> bool) -> Result<()> {
    for (name, path) in files(folder)? {
        if is_such(&name) {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
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
    let mut found = files(folder)?;
    found.retain(|(name, _)| is_database(name));
    if found.is_empty() {
        bail!("{} holds no database", folder.display());
    }
    found.sort();
    Ok(found)
}

/// The files in a folder, by their names.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str() {
            found.push((name.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

fn is_database(name: &str) -> bool {
    name.starts_with("sqlite_") && name.ends_with(".db")
}

/// Returns whether a file is of a copy that is not yet a database: the copy, or SQLite's log or journal of it.
fn is_partial(name: &str) -> bool {
    let database = name.split_once(PARTIAL).map(|(database, _)| database);
    database.is_some_and(is_database)
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

/// Runs a statement, and returns its output.
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
            "CREATE TABLE schema_migrations (version INTEGER); CREATE TABLE loro_snapshots (rev INTEGER);
             CREATE TABLE log (rev INTEGER PRIMARY KEY, payload BLOB)",
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

    /// The number of rows. Asserts that their revs are 1 to that number.
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
        assert!(!state.exists());
        // In a folder that existed before, the files that are not of the restore stay.
        fs::create_dir(&state).unwrap();
        fs::write(state.join("note"), "").unwrap();
        restore(&backup, &state).unwrap_err();
        assert_eq!(names(&state), ["note"]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let found = files(folder).unwrap();
        let mut names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    /// The restore refuses these files, because SQLite would take them for those of the restored database.
    #[test]
    fn the_left_over_file_of_another_database_is_refused() {
        for ending in ["-wal", "-shm", "-journal"] {
            let folder = tempfile::tempdir().unwrap();
            let (backup, state) = (folder.path().join("backup"), folder.path().join("state"));
            for folder in [&backup, &state] {
                fs::create_dir(folder).unwrap();
            }
            sqlite3(&made(&backup), "PRAGMA journal_mode = DELETE").unwrap();
            let name = format!("{MAIN}{ending}");
            for (at, away) in [(&state, true), (&backup, false)] {
                fs::write(at.join(&name), "of another").unwrap();
                let refused = restore(&backup, &state).unwrap_err().to_string();
                let path = at.join(&name).display().to_string();
                assert!(refused.contains(&path), "{refused}");
                if away {
                    assert_eq!(names(&state), [&*name]);
                    fs::remove_file(at.join(&name)).unwrap();
                }
            }
            assert!(names(&state).is_empty());
            fs::remove_file(backup.join(&name)).unwrap();
            restore(&backup, &state).unwrap();
        }
    }

    #[test]
    fn a_backup_without_the_database_of_the_app_is_not_restored() {
        let folder = tempfile::tempdir().unwrap();
        let (backup, state) = (folder.path().join("backup"), folder.path().join("state"));
        fs::create_dir(&backup).unwrap();
        let other = backup.join("sqlite_other.db");
        sqlite3(&other, "CREATE TABLE loro_snapshots (rev INTEGER)").unwrap();
        let refused = || {
            let refused = restore(&backup, &state).unwrap_err().to_string();
            assert!(refused.contains(MAIN), "{refused}");
            assert!(!state.exists());
            refused
        };
        assert!(refused().contains("is missing"));
        let main = backup.join(MAIN);
        fs::write(&main, "").unwrap();
        assert!(refused().contains("lacks the tables"));
        fs::copy(&other, &main).unwrap();
        assert!(refused().contains("lacks the tables"));
        fs::write(
            &main,
            "no database, but longer than the header of one; ".repeat(99),
        )
        .unwrap();
        refused();
        fs::remove_file(&main).unwrap();
        sqlite3(&made(&backup), "PRAGMA journal_mode = DELETE").unwrap();
        restore(&backup, &state).unwrap();
        assert_eq!(names(&state), [MAIN, "sqlite_other.db"]);
    }

    /// The copies are left over from a restore that was killed.
    #[test]
    fn copies_of_an_earlier_restore_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (backup, state) = (folder.path().join("backup"), folder.path().join("state"));
        for folder in [&backup, &state] {
            fs::create_dir(folder).unwrap();
        }
        sqlite3(&made(&backup), "PRAGMA journal_mode = DELETE").unwrap();
        for name in ["sqlite_db.db.partial-wal", "sqlite_gone.db.partial"] {
            fs::write(state.join(name), "half").unwrap();
        }
        restore(&backup, &state).unwrap();
        assert_eq!(names(&state), [MAIN]);
    }
}
