//! The state folder: documents, tokens and compiled code are for the user alone whose the host is.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Makes the folder, or takes from others what rights they have to what an earlier release made in it. What else lies
/// there is left alone, and then so are the rights to the folder itself.
///
/// # Errors
/// When the folder can be neither made nor read.
pub fn open(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut only_ours = true;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Some(name) if is_ours(name) => tighten(&entry.path()),
            _ => only_ours = false,
        }
    }
    if only_ours {
        take_from_others(folder);
    }
    Ok(())
}

/// A database with what SQLite keeps beside it, the compiled code, or copies of components' files.
fn is_ours(name: &str) -> bool {
    let is_database = |end| name.starts_with("sqlite_") && name.ends_with(end);
    matches!(name, "cache" | "files")
        || [".db", ".db-wal", ".db-shm", ".db-journal"]
            .into_iter()
            .any(is_database)
}

/// Takes the rights of others to a file, or to a folder and all that is in it. Links lead to what is not ours.
fn tighten(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else {
        return;
    };
    if found.is_symlink() {
        return;
    }
    if found.is_dir()
        && let Ok(entries) = fs::read_dir(path)
    {
        entries.flatten().for_each(|entry| tighten(&entry.path()));
    }
    take_from_others(path);
}

fn take_from_others(path: &Path) {
    let taken = fs::metadata(path).and_then(|found| {
        let mode = found.permissions().mode();
        match mode & 0o077 {
            0 => Ok(()),
            _ => fs::set_permissions(path, Permissions::from_mode(mode & 0o700)),
        }
    });
    if let Err(error) = taken {
        tracing::warn!(path = %path.display(), %error, "others may have rights to the state");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn make(path: &Path) {
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }

    #[test]
    fn the_folder_is_for_its_user_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/state");
        open(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn what_an_earlier_release_made_is_tightened_and_nothing_else() {
        let outer = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (outer.path().join("state"), outer.path().join("elsewhere"));
        fs::create_dir_all(folder.join("cache/modules")).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let ours = [
            "sqlite_db.db",
            "sqlite_db.db-wal",
            "sqlite_db.db-shm",
            "sqlite_key_value.db",
            "cache/modules/compiled",
        ];
        for name in ours {
            make(&folder.join(name));
        }
        make(&elsewhere);
        std::os::unix::fs::symlink(&elsewhere, folder.join("files")).unwrap();
        open(&folder).unwrap();
        for name in ours {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
        assert_eq!(mode(&folder.join("cache")), 0o700);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&elsewhere), 0o644);
        // A folder with something else in it is somebody's, as `--state-dir .` would have it.
        let foreign = folder.join("notes.txt");
        make(&foreign);
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        open(&folder).unwrap();
        assert_eq!((mode(&foreign), mode(&folder)), (0o644, 0o755));
    }
}
