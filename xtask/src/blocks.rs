//! The blocks of code in the pages that need a running server. They are run as the pages show them.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    python,
    steps::{program, quietly, root},
};

/// The pages with such blocks.
pub(crate) const PAGES: &[&str] = &[
    "README.md",
    "clients/python/README.md",
    "clients/web/README.md",
    "docs/tasks.md",
    "docs/troubleshooting.md",
];

/// The line above each such block, and the beginning of the next one.
const MARK: &str = "<!-- run by: xtask/src/blocks.rs -->\n```";

/// The address in the pages.
const ADDRESS: &str = "http://127.0.0.1:8787";

/// The commands before each block of shell: any command that fails, and any answer of an error, fails the block.
const STRICT: &str = "set -euo pipefail; curl() { command curl --fail-with-body \"$@\"; }\n";

/// The folder in which blocks are run.
const FOLDER: &str = "target/blocks";

/// The seconds after which a block has failed.
const PATIENCE: &str = "120";

/// The pictures that blocks name, with the first bytes by which the server recognises their type.
const PICTURES: &[(&str, &[u8])] = &[
    ("photo.png", b"\x89PNG\r\n\x1a\n"),
    ("house.jpg", b"\xff\xd8\xff\xe0"),
];

/// The WebSocket for Node before version 22, which has none of its own.
const WEB_SOCKET: &str = "import { WebSocket } from \"ws\";\nglobalThis.WebSocket ??= WebSocket;\n";

/// The end of a block of TypeScript that leaves its connection open, as a page does.
const CLOSE: &str = "\nawait connection.whenSaved();\nconnection.close();\n";

/// Runs the blocks, one page after the other, against the server at this address.
pub(crate) fn run(server: &str) -> Result<()> {
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    for (name, bytes) in PICTURES {
        fs::write(folder.join(name), bytes)?;
    }
    for page in PAGES {
        let text = fs::read_to_string(root().join(page)).context(*page)?;
        let blocks = marked(&text);
        ensure!(!blocks.is_empty(), "{page} has no block that is run");
        for (language, block) in blocks {
            eprintln!("==> {page}\n{block}");
            let mut command = match language {
                "sh" => shell(&block.replace(ADDRESS, server)),
                "python" => in_python(block, server)?,
                "ts" => typescript(
                    &block
                        .replace(&address_of_rooms(ADDRESS), &address_of_rooms(server))
                        .replace(ADDRESS, server),
                )?,
                other => bail!("{page}: a block of {other} cannot be run"),
            };
            quietly(&mut command).with_context(|| format!("{page}:\n{block}"))?;
            eprintln!();
        }
    }
    Ok(())
}

/// The blocks of a page that are run: the language and the code of each.
fn marked(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split(MARK).skip(1);
    blocks
        .filter_map(|block| block.split("\n```").next()?.split_once('\n'))
        .collect()
}

fn shell(block: &str) -> Command {
    let script = format!("{STRICT}{block}");
    bounded("bash", &["-c", &script])
}

fn in_python(block: &str, server: &str) -> Result<Command> {
    let python = python::installed()?;
    let mut command = bounded(&python.to_string_lossy(), &["-c", block]);
    command.env("SYNC_SERVER_URL", server);
    Ok(command)
}

/// Compiles a block with the compiler of the web client, beside the packages of the browser's tests.
fn typescript(block: &str) -> Result<Command> {
    let folder = root().join("e2e/browser/node_modules/.blocks");
    fs::create_dir_all(&folder)?;
    let end = if block.contains("connection.close()") {
        ""
    } else {
        CLOSE
    };
    fs::write(folder.join("socket.mjs"), WEB_SOCKET)?;
    fs::write(folder.join("block.mts"), format!("{block}{end}"))?;
    let mut compiler = program("clients/web/node_modules/.bin/tsc", &[]);
    compiler
        .args(["--strict", "--skipLibCheck", "--target", "es2022"])
        .args(["--module", "nodenext", "--lib", "es2022,dom"])
        .arg(folder.join("block.mts"));
    quietly(&mut compiler)?;
    let mut command = bounded("node", &["--import", "./socket.mjs", "block.mjs"]);
    command.current_dir(folder);
    Ok(command)
}

/// A program in the folder of the blocks, which is ended after a while.
fn bounded(name: &str, arguments: &[&str]) -> Command {
    let mut command = program("timeout", &[PATIENCE, name]);
    command.args(arguments).current_dir(root().join(FOLDER));
    command
}

/// The address with which those of a server's rooms begin: `ws` in place of `http`.
fn address_of_rooms(server: &str) -> String {
    server.replacen("http", "ws", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_blocks_are_found_with_their_languages() {
        let page =
            format!("a\n{MARK}sh\none\ntwo\n```\nb\n```sh\nnot\n```\n{MARK}ts\nthree\n```\n");
        assert_eq!(marked(&page), [("sh", "one\ntwo"), ("ts", "three")]);
    }
}
