//! Where the programs are that the tests start.

use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A file that `cargo xtask test` builds before it runs the tests.
pub fn built(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask test` builds it",
        path.display()
    );
    path
}

/// The folder of code that wasmtime has compiled. All tests share it, so that each component is
/// compiled once.
pub fn compiled() -> PathBuf {
    let folder = root().join("target/tmp/e2e/cache");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
