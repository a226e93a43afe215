//! The places of the programs that the tests start.

use std::path::{Path, PathBuf};

/// The folder of this package.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The top of the repository.
pub fn root() -> &'static Path {
    package().parent().unwrap()
}

/// A file that `cargo xtask test` builds before it runs the tests.
///
/// # Panics
/// If it is missing.
pub fn built(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask test` builds it",
        path.display()
    );
    path
}

/// The folder for the code that wasmtime compiles. All tests share it, so that each component is compiled once.
pub fn compiled() -> PathBuf {
    let folder = root().join("target/tmp/e2e/cache");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
