//! The tests of the Containerfiles.

use std::collections::BTreeSet;

use toml::Table;

use super::{is_known, options, read};

/// The instructions of a Containerfile, with continued lines joined and comments left out.
fn instructions(path: &str) -> Vec<(String, String)> {
    let file = read(path).replace("\\\n", " ");
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// The instructions of the last stage, which is the image.
fn image(path: &str) -> Vec<(String, String)> {
    let mut all = instructions(path);
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    all.split_off(last)
}

fn rest<'a>(image: &'a [(String, String)], word: &str) -> &'a str {
    let found = image.iter().find(|(other, _)| other == word);
    &found.unwrap_or_else(|| panic!("no {word}")).1
}

const OURS: [&str; 2] = ["relay", "loro-host"];

#[test]
fn the_images_hold_a_static_program_and_no_shell() {
    for name in OURS {
        let path = format!("deploy/containers/{name}.Containerfile");
        let image = image(&path);
        assert_eq!(rest(&image, "FROM"), "scratch", "{name}");
        assert_eq!(rest(&image, "USER"), "65532:65532", "{name}");
        assert!(image.iter().all(|(word, _)| word != "RUN"), "{name}");
        let start: Vec<String> = serde_json::from_str(rest(&image, "ENTRYPOINT")).unwrap();
        assert_eq!(start[0], format!("/{name}"));
    }
}

#[test]
fn they_are_built_by_the_rust_of_this_repository() {
    let toolchain: Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let (minor, _) = channel.rsplit_once('.').unwrap();
    for name in OURS {
        let path = format!("deploy/containers/{name}.Containerfile");
        let from = rest(&instructions(&path), "FROM").to_owned();
        assert_eq!(from, format!("rust:{minor}-alpine AS build"), "{name}");
    }
    let relay: Table = read("components/relay-command/Cargo.toml").parse().unwrap();
    assert_eq!(relay["package"]["name"].as_str(), Some("relay-command"));
    assert_eq!(relay["bin"][0]["name"].as_str(), Some("relay"));
}

/// The Containerfiles install the programs that the README requires for a build.
#[test]
fn they_install_what_a_build_needs() {
    for (name, needed) in [
        ("relay", &["gcc", "make", "musl-dev"][..]),
        ("loro-host", &["gcc", "make", "musl-dev", "nodejs", "npm"]),
    ] {
        let all = instructions(&format!("deploy/containers/{name}.Containerfile"));
        let installed = rest(&all, "RUN").strip_prefix("apk add --no-cache ");
        let installed: Vec<&str> = installed.unwrap().split(' ').collect();
        assert_eq!(installed, needed, "{name}");
    }
}

#[test]
fn their_settings_are_known() {
    let mut words = Vec::new();
    for name in OURS {
        let image = image(&format!("deploy/containers/{name}.Containerfile"));
        for (_, variables) in image.iter().filter(|(word, _)| word == "ENV") {
            for variable in variables.split_whitespace() {
                let (variable, _) = variable.split_once('=').unwrap();
                assert!(
                    variable == "SSL_CERT_FILE" || is_known(variable),
                    "{variable}"
                );
            }
        }
        for word in ["ENTRYPOINT", "CMD"] {
            let found = image.iter().find(|(other, _)| other == word);
            let arguments = found.map_or("[]", |(_, arguments)| arguments);
            words.extend(serde_json::from_str::<Vec<String>>(arguments).unwrap());
        }
    }
    let used: BTreeSet<String> = words
        .iter()
        .filter_map(|word| word.strip_prefix("--"))
        .map(str::to_owned)
        .collect();
    assert_eq!(used.len(), 3);
    assert!(used.is_subset(&options("host")), "{used:?}");
}

/// The relay's Wasm build and the components lie where the manifest looks for them.
#[test]
fn the_components_are_beside_the_manifest() {
    let file = read("deploy/containers/loro-host.Containerfile");
    let folder = "target/wasm32-wasip2/wasm/";
    assert!(file.contains("cp spin.toml /app \\\n"));
    assert!(file.contains(&format!("cp {folder}*.wasm /app/{folder}\n")));
    let manifest: Table = read("spin.toml").parse().unwrap();
    for component in manifest["component"].as_table().unwrap().values() {
        assert!(component["source"].as_str().unwrap().starts_with(folder));
    }
}
