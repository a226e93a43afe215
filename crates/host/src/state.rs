//! The state folder. Documents, tokens and compiled code are readable by the host's own user alone.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Creates the folder, or takes away the rights that other users have to the files of an earlier release. Foreign files
/// are left alone, and if there are any, so is the folder itself.
///
/// # Errors
/// If the folder can be neither created nor read.
pub(crate) fn open(folder: &Path) -> io::Result<()> {
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

/// Returns whether a file is the host's: a database with the files that SQLite keeps beside it, compiled code, or the
/// copies of components' files that earlier releases made.
fn is_ours(name: &str) -> bool {
    let is_database = |end| name.starts_with("sqlite_") && name.ends_with(end);
    matches!(name, "cache" | "files")
        || [".db", ".db-wal", ".db-shm", ".db-journal"]
            .into_iter()
            .any(is_database)
}

/// Takes away the rights of other users to a file, or to a folder and everything in it. Links are left alone, because
/// they lead to foreign files.
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
        if mode & 0o077 == 0 {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode & 0o700))
    });
    if let Err(error) = taken {
        tracing::warn!(path = %path.display(), %error, "other users may have rights to the state");
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
    fn the_folder_is_readable_by_its_user_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/state");
        open(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn files_of_an_earlier_release_are_tightened_and_no_others() {
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
        // A folder with foreign files is left alone, such as that of `--state-dir .`.
        let foreign = folder.join("notes.txt");
        make(&foreign);
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        open(&folder).unwrap();
        assert_eq!((mode(&foreign), mode(&folder)), (0o644, 0o755));
    }
}
