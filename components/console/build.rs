//! Writes the table of the page's files, which `src/page.rs` includes.
//!
//! The page itself is built by npm, into `dist`, before the component is compiled. In a checkout without it the
//! table is empty, so that tests and style checks need no npm; the component then answers 404 and says why.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

#[path = "src/describe.rs"]
mod describe;

fn main() -> io::Result<()> {
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/describe.rs");
    println!("cargo::rerun-if-changed=dist");
    let mut files = BTreeSet::new();
    if folder.is_dir() {
        collect(&folder, &folder, &mut files)?;
    }
    if files.is_empty() {
        // A path that never exists makes Cargo run this script each time, so that it also notices a page that is
        // older than this build, such as one that was copied here.
        println!("cargo::rerun-if-changed=no-page");
        println!(
            "cargo::warning=the page has not been built, so the component answers 404; \
             run `npm ci` and `npm run build` in components/console/web, or `cargo xtask build`"
        );
    }
    let table = Path::new(&variable("OUT_DIR")?).join("page.rs");
    fs::write(table, table_of(&folder, &files)?)
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}

/// Collects the paths of all files below `folder`, relative to `root`, with `/` between the parts.
fn collect(root: &Path, folder: &Path, files: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Some(path) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.insert(path.to_owned());
        }
    }
    Ok(())
}

/// Writes the table as Rust code. A compressed copy belongs to the file whose name it extends.
fn table_of(folder: &Path, files: &BTreeSet<String>) -> io::Result<String> {
    let mut table = "&[\n".to_owned();
    for path in files {
        let is_copy = |suffix| {
            path.strip_suffix(suffix)
                .is_some_and(|of| files.contains(of))
        };
        if is_copy(".br") || is_copy(".gz") {
            continue;
        }
        let media_type = describe::media_type(path)
            .ok_or_else(|| io::Error::other(format!("dist/{path}: no media type is known")))?;
        let copy = |suffix: &str| {
            if files.contains(&format!("{path}{suffix}")) {
                representation(folder, path, suffix).map(|copy| format!("Some({copy})"))
            } else {
                Ok("None".to_owned())
            }
        };
        writeln!(
            table,
            "File {{ path: {path:?}, media_type: {media_type:?}, immutable: {}, \
             plain: {}, brotli: {}, gzip: {} }},",
            describe::is_immutable(path),
            representation(folder, path, "")?,
            copy(".br")?,
            copy(".gz")?,
        )
        .map_err(io::Error::other)?;
    }
    table.push(']');
    Ok(table)
}

/// Writes one copy of a file as a value of the table; the compiler includes its bytes.
fn representation(folder: &Path, path: &str, suffix: &str) -> io::Result<String> {
    let file: PathBuf = folder.join(format!("{path}{suffix}"));
    let tag = describe::tag(path, suffix, &fs::read(&file)?);
    Ok(format!(
        "Representation {{ tag: {tag:?}, bytes: include_bytes!({file:?}) }}"
    ))
}
