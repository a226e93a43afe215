//! Compares README and the pages in `docs/` with what they name: files, headings, items of the code and commands. Their
//! blocks of code must be run by a test, or say why not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::{Cli, blocks::PAGES, steps::root};

/// The pages whose purpose is to name items of the code, with the least number of items that each must name.
const NAMES_ITEMS: &[(&str, usize)] = &[
    ("docs/architecture.md", 50),
    ("docs/how-an-edit-travels.md", 20),
    ("docs/how-a-task-travels.md", 20),
];

/// The sign of a block that no test runs. The reason follows.
const NOT_RUN: &str = "<!-- not run: ";

/// The sign of a block that a test runs. The test's file follows.
const RUN_BY: &str = "<!-- run by: ";

/// The languages of blocks that can be run.
const LANGUAGES: &[&str] = &["js", "python", "rust", "sh", "ts"];

/// A page: its file, and its text.
struct Page {
    file: PathBuf,
    text: String,
}

impl Page {
    fn read(file: PathBuf) -> Self {
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { file, text }
    }

    /// The path from the top of the repository.
    fn name(&self) -> String {
        let name = self.file.strip_prefix(root()).unwrap();
        name.to_string_lossy().into_owned()
    }

    /// The links, each as its words and its target. Blocks of code have none.
    fn links(&self) -> Vec<(String, String)> {
        let prose = self.prose();
        let mut links = Vec::new();
        for (at, _) in prose.match_indices("](") {
            let words = prose[..at].rsplit('[').next().unwrap_or("");
            let target = prose[at + 2..].split(')').next().unwrap_or("");
            links.push((words.to_owned(), target.to_owned()));
        }
        links
    }

    /// The text without its blocks of code.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// The blocks of code, each with the line above it, its language and its lines.
    fn blocks(&self) -> Vec<(&str, &str, Vec<&str>)> {
        let mut blocks = Vec::new();
        let (mut above, mut lines) = ("", self.text.lines());
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let code = lines.by_ref().take_while(|line| !line.starts_with("```"));
                blocks.push((above, language, code.collect()));
            }
            above = line;
        }
        blocks
    }

    /// The names by which links lead to a heading or a mark.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose();
        let headings = headings
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| anchor(line.trim_start_matches('#').trim()));
        let marks = self.text.split("<a id=\"").skip(1);
        let marks = marks.map(|rest| rest.split('"').next().unwrap().to_owned());
        headings.chain(marks).collect()
    }
}

/// The name that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let kept: String = heading.to_lowercase().chars().filter(kept).collect();
    kept.replace(' ', "-")
}

/// The markdown files of a folder.
fn of_folder(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// The pages of the repository, except those of programs that it installs.
fn pages() -> Vec<Page> {
    let root = root();
    let mut files = of_folder(&root);
    files.extend(of_folder(&root.join("docs")));
    files.extend(["clients/web/README.md", "clients/python/README.md"].map(|file| root.join(file)));
    for host in std::fs::read_dir(root.join("deploy")).unwrap() {
        let readme = host.unwrap().path().join("README.md");
        files.extend(readme.exists().then_some(readme));
    }
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    files.into_iter().map(Page::read).collect()
}

/// Returns whether a file of Rust declares an item: a function, a type, a trait, a constant or a macro.
fn declares(code: &str, item: &str) -> bool {
    const KINDS: &[&str] = &[
        "fn ",
        "struct ",
        "enum ",
        "trait ",
        "const ",
        "static ",
        "type ",
        "macro_rules! ",
    ];
    code.lines().any(|line| {
        let line = line.trim_start();
        !line.starts_with("//")
            && KINDS.iter().any(|kind| {
                line.match_indices(kind).any(|(at, _)| {
                    let is_word = line[..at].is_empty() || line[..at].ends_with(' ');
                    let name = line[at + kind.len()..].strip_prefix(item);
                    let is_whole =
                        |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
                    is_word && name.is_some_and(is_whole)
                })
            })
    })
}

/// Returns whether a file of Rust has an `impl` for a type.
fn implements(code: &str, of: &str) -> bool {
    code.lines().any(|line| {
        let words = || line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        line.starts_with("impl") && words().any(|word| word == of)
    })
}

/// The item that the words of a link name, as `type` and `name`: `` `Room` ``, `` `Log::apply` ``.
fn item(words: &str) -> Option<(Option<&str>, &str)> {
    let words = words.strip_prefix('`')?.strip_suffix('`')?;
    let is_name = |word: &str| word.chars().all(|c| c.is_alphanumeric() || c == '_');
    match words.split_once("::") {
        Some((of, name)) if is_name(of) && is_name(name) => Some((Some(of), name)),
        None if is_name(words) => Some((None, words)),
        _ => None,
    }
}

#[test]
fn links_lead_to_files_and_headings() {
    for page in pages() {
        for (_, link) in page.links() {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let file = match path {
                "" => page.file.clone(),
                path => page.file.parent().unwrap().join(path),
            };
            assert!(file.exists(), "{}: {link}", page.name());
            if !heading.is_empty() {
                let anchors = Page::read(file).anchors();
                assert!(anchors.contains(heading), "{}: {link}", page.name());
            }
        }
    }
}

#[test]
fn items_of_the_code_are_where_the_pages_say() {
    for page in pages() {
        let mut named = 0;
        for (words, link) in page.links() {
            if let (Some((of, name)), true) = (item(&words), link.ends_with(".rs")) {
                let code =
                    std::fs::read_to_string(page.file.parent().unwrap().join(&link)).unwrap();
                let is_there = declares(&code, name)
                    && of.is_none_or(|of| declares(&code, of) || implements(&code, of));
                assert!(is_there, "{}: {words} is not in {link}", page.name());
                named += 1;
            }
        }
        let page = page.name();
        let least = NAMES_ITEMS.iter().find(|(name, _)| *name == page);
        assert!(
            least.is_none_or(|(_, least)| named >= *least),
            "{page}: {named}"
        );
    }
}

#[test]
fn a_declaration_is_distinguished_from_a_use() {
    let code = "impl<'a> Engine<'a> {\n    pub(super) async fn end(&self) {}\n}\nconst HELD: &str = \"\";\n\
                // fn gone()\nlet ended = end();\n";
    for (name, is_there) in [
        ("end", true),
        ("HELD", true),
        ("ended", false),
        ("gone", false),
        ("en", false),
    ] {
        assert_eq!(declares(code, name), is_there, "{name}");
    }
    assert!(implements(code, "Engine") && !implements(code, "Eng"));
}

#[test]
fn every_block_is_run_or_says_why_not() {
    for page in pages() {
        for (above, language, lines) in page.blocks() {
            let word = language.split([' ', ',']).next().unwrap();
            if !LANGUAGES.contains(&word) {
                continue;
            }
            let told = format!("{}: the block that begins with {:?}", page.name(), lines[0]);
            let says = |sign| {
                above
                    .strip_prefix(sign)
                    .and_then(|s: &str| s.strip_suffix(" -->"))
            };
            match (says(RUN_BY), says(NOT_RUN)) {
                (Some(file), None) => {
                    assert!(root().join(file).exists(), "{told}: {file}");
                    let is_read = PAGES.contains(&page.name().as_str());
                    assert!(is_read || file != "xtask/src/blocks.rs", "{told}: {file}");
                }
                (None, Some(reason)) => assert!(reason.len() > 10, "{told}"),
                _ => panic!("{told} has neither {RUN_BY}… --> nor {NOT_RUN}… --> above it"),
            }
        }
    }
}

/// Collects the files of a folder and of the folders in it.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Returns whether a file of Rust has a statement that writes to the app's database, outside of its tests.
fn writes(code: &str) -> bool {
    let code = code.split("mod tests {").next().unwrap_or_default();
    let lines = code.lines().map(str::trim_start);
    lines.filter(|line| !line.starts_with("//")).any(|line| {
        ["INSERT INTO ", "INSERT OR ", "DELETE FROM "]
            .iter()
            .any(|verb| line.contains(verb))
            || line.contains("UPDATE ") && line.contains(" SET")
    })
}

/// The table says what each statement does if its answer is lost and it is repeated, so it must name every file that
/// writes.
#[test]
fn every_file_that_writes_is_in_the_table_of_lost_answers() {
    let page = Page::read(root().join("docs/libsql.md"));
    let mut count = 0;
    for library in [
        "archive",
        "auth",
        "door",
        "projection",
        "quota",
        "rooms",
        "tasks",
    ] {
        let mut found = Vec::new();
        files(&root().join("crates").join(library).join("src"), &mut found);
        for file in found {
            let path = file.strip_prefix(root()).unwrap().display().to_string();
            let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
            if !is_test && writes(&std::fs::read_to_string(&file).unwrap()) {
                assert!(page.text.contains(&path), "docs/libsql.md lacks {path}");
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn commands_of_this_repository_exist() {
    let mut commands = 0;
    for page in pages() {
        let blocks = page.blocks();
        let lines = blocks.iter().filter(|(_, language, _)| *language == "sh");
        for line in lines.flat_map(|(_, _, lines)| lines) {
            // Variables of the environment may come before it.
            let Some((_, command)) = line.split_once("cargo xtask ") else {
                continue;
            };
            let command = command.split([';', '#', '>', '|', '&', '`', '\'']).next();
            let words = command.unwrap_or("").split_whitespace();
            let words = words.filter(|word| *word != "\\");
            let parsed = Cli::try_parse_from(std::iter::once("cargo xtask").chain(words));
            if let Err(error) = parsed {
                panic!("{}: {line}\n{error}", page.name());
            }
            commands += 1;
        }
    }
    assert!(commands > 8, "{commands}");
}
