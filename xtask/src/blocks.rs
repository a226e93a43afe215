//! The blocks of shell in README and `docs/` that work against a server that runs: they are run as they stand there.

use anyhow::{Context, Result, ensure};

use crate::steps::{program, quietly, root};

/// The pages with such blocks.
const PAGES: &[&str] = &["README.md", "docs/tasks.md", "docs/troubleshooting.md"];

/// The line above each such block.
const MARK: &str = "<!-- run by: xtask/src/blocks.rs -->\n```sh\n";

/// The address in the pages.
const ADDRESS: &str = "http://127.0.0.1:8787";

/// The commands before each block: any command that fails, and any answer of an error, fails the block.
const STRICT: &str = "set -euo pipefail; curl() { command curl --fail-with-body \"$@\"; }\n";

/// Runs the blocks, one page after the other, against the server at this address.
pub(crate) fn run(server: &str) -> Result<()> {
    let folder = root().join("target/blocks");
    std::fs::create_dir_all(&folder)?;
    for page in PAGES {
        let text = std::fs::read_to_string(root().join(page)).context(*page)?;
        let blocks: Vec<&str> = text.split(MARK).skip(1).collect();
        ensure!(!blocks.is_empty(), "{page} has no block that is run");
        for block in blocks {
            let block = block.split("```").next().unwrap_or(block);
            eprintln!("==> {page}\n{block}");
            let script = format!("{STRICT}{}", block.replace(ADDRESS, server));
            let mut bash = program("bash", &["-c", &script]);
            quietly(bash.current_dir(&folder)).with_context(|| format!("{page}:\n{block}"))?;
            eprintln!();
        }
    }
    Ok(())
}
