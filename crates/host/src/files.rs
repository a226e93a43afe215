//! Files of components: what `files` names, seen read-only by the guest.
//!
//! A folder with a destination is mounted as it stands, so that changes show at once. Patterns and single
//! files are copied to the state folder at start and mounted from there, as Spin does.

use std::fs;
use std::path::{Component as Part, Path, PathBuf};

use crate::manifest::{Component, Files};

/// The folders that component `id` sees: path here, path in the guest. `root` is the manifest's
/// folder, `staging` a folder for copies.
pub fn mounts(
    id: &str,
    component: &Component,
    root: &Path,
    staging: &Path,
) -> Result<Vec<(PathBuf, String)>, String> {
    if component.files.is_empty() {
        return Ok(Vec::new());
    }
    let direct: Option<Vec<_>> = component
        .files
        .iter()
        .map(|files| match files {
            Files::Placement {
                source,
                destination,
            } if component.exclude_files.is_empty() => {
                let folder = root.join(source);
                folder
                    .is_dir()
                    .then(|| (folder, format!("/{}", destination.trim_start_matches('/'))))
            }
            _ => None,
        })
        .collect();
    if let Some(direct) = direct {
        return Ok(direct);
    }
    let staging = staging.join(id);
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", staging.display()));
        }
        _ => {}
    }
    let excluded = component
        .exclude_files
        .iter()
        .map(|pattern| {
            glob::Pattern::new(pattern).map_err(|e| format!("exclude_files: {pattern:?}: {e}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let copier = Copier {
        root,
        staging: &staging,
        excluded,
    };
    for files in &component.files {
        copier.copy(files)?;
    }
    Ok(vec![(staging, "/".to_owned())])
}

struct Copier<'a> {
    root: &'a Path,
    staging: &'a Path,
    excluded: Vec<glob::Pattern>,
}

impl Copier<'_> {
    fn copy(&self, files: &Files) -> Result<(), String> {
        match files {
            Files::Pattern(pattern) => {
                let path = self.root.join(pattern);
                if path.is_file() {
                    self.copy_file(&path, pattern)
                } else if path.is_dir() {
                    self.copy_glob(&path.join("**/*"), self.root, "")
                } else if pattern.contains(['*', '?', '[']) {
                    self.copy_glob(&path, self.root, "")
                } else {
                    Err(format!("files: there is no {pattern:?}"))
                }
            }
            Files::Placement {
                source,
                destination,
            } => {
                let path = self.root.join(source);
                if path.is_file() {
                    self.copy_file(&path, destination)
                } else if path.is_dir() {
                    self.copy_glob(&path.join("**/*"), &path, destination)
                } else {
                    Err(format!("files: there is no {source:?}"))
                }
            }
        }
    }

    fn copy_glob(&self, pattern: &Path, base: &Path, destination: &str) -> Result<(), String> {
        let pattern = pattern.to_str().ok_or("files: a path isn't UTF-8")?;
        let paths = glob::glob(pattern).map_err(|e| format!("files: {pattern:?}: {e}"))?;
        for path in paths {
            let path = path.map_err(|e| format!("files: {e}"))?;
            if path.is_file() {
                let below = path.strip_prefix(base).map_err(|_| outside(&path))?;
                self.copy_file(&path, &Path::new(destination).join(below).to_string_lossy())?;
            }
        }
        Ok(())
    }

    fn copy_file(&self, from: &Path, to: &str) -> Result<(), String> {
        let below = from.strip_prefix(self.root).map_err(|_| outside(from))?;
        if self
            .excluded
            .iter()
            .any(|pattern| pattern.matches_path(below))
        {
            return Ok(());
        }
        let relative: PathBuf = Path::new(to)
            .components()
            .filter(|part| !matches!(part, Part::RootDir))
            .collect();
        if relative
            .components()
            .chain(below.components())
            .any(|part| matches!(part, Part::ParentDir))
        {
            return Err(outside(from));
        }
        let target = self.staging.join(relative);
        let copied = target
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::copy(from, &target).map(drop));
        copied.map_err(|e| format!("files: {}: {e}", from.display()))
    }
}

fn outside(path: &Path) -> String {
    format!(
        "files: {} is outside the application's folder",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn mounted(files: &str, exclude: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in ["web/index.html", "web/js/a.js", "web/js/b.map", "one.txt"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let text = format!(
            "spin_manifest_version = 2\n[application]\nname = \"x\"\n[trigger]\n[component.c]\nsource = \"c.wasm\"\nfiles = {files}\nexclude_files = {exclude}"
        );
        let manifest = Manifest::parse(&text, root.to_owned()).unwrap();
        let mounts = mounts("c", &manifest.components["c"], root, &root.join(".staging"))?;
        let mut seen = Vec::new();
        for (here, there) in mounts {
            for path in glob::glob(here.join("**/*").to_str().unwrap())
                .unwrap()
                .flatten()
                .filter(|p| p.is_file())
            {
                let below = path.strip_prefix(&here).unwrap();
                seen.push(Path::new(&there).join(below).display().to_string());
            }
        }
        seen.sort();
        Ok(seen)
    }

    #[test]
    fn guests_see_what_files_names() {
        for (files, exclude, expected) in [
            (
                r#"[{ source = "web", destination = "/static" }]"#,
                "[]",
                vec!["/static/index.html", "/static/js/a.js", "/static/js/b.map"],
            ),
            (
                r#"[{ source = "web", destination = "/" }]"#,
                r#"["**/*.map"]"#,
                vec!["/index.html", "/js/a.js"],
            ),
            (r#"["web/*.html"]"#, "[]", vec!["/web/index.html"]),
            (
                r#"["web/**/*"]"#,
                r#"["web/js/*"]"#,
                vec!["/web/index.html"],
            ),
            (
                r#"["one.txt", { source = "one.txt", destination = "/a/b.txt" }]"#,
                "[]",
                vec!["/a/b.txt", "/one.txt"],
            ),
        ] {
            assert_eq!(mounted(files, exclude).unwrap(), expected, "{files}");
        }
    }

    #[test]
    fn missing_files_and_ways_out_are_errors() {
        for files in [
            r#"["nothing.txt"]"#,
            r#"[{ source = "nothing", destination = "/" }]"#,
            r#"["../*"]"#,
            r#"[{ source = "one.txt", destination = "/../x" }]"#,
        ] {
            let result = mounted(files, "[]");
            assert!(
                result.as_ref().is_err() || result.as_ref().is_ok_and(Vec::is_empty),
                "{files}: {result:?}"
            );
        }
    }
}
