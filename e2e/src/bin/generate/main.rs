//! Writes what the code declares into `spin.toml` and `docs/`: variables, settings, options and routes.
//!
//! `cargo xtask generate` builds the components, because their code shows which variables each reads, and runs this.
//! With `--check` it writes nothing, and fails if a file would change.

mod markdown;
mod options;
mod routes;
mod variables;

use anyhow::{Context, Result, bail};
use clap::Parser;
use e2e::built::root;

#[derive(Parser)]
struct Cli {
    /// Compare only
    #[arg(long)]
    check: bool,
}

/// The new text of a file, made from the present one.
type Render = fn(&str) -> Result<String>;

const FILES: &[(&str, Render)] = &[
    ("spin.toml", variables::manifest),
    ("docs/settings.md", |text| {
        let text = markdown::replace(text, "variables", &variables::table())?;
        let text = markdown::replace(&text, "relay", &options::relay())?;
        markdown::replace(&text, "host", &options::host())
    }),
    ("docs/http.md", |text| {
        let text = markdown::replace(text, "routes", &routes::public())?;
        markdown::replace(&text, "internal routes", &routes::internal())
    }),
];

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut stale = Vec::new();
    for (path, render) in FILES {
        let file = root().join(path);
        let present = std::fs::read_to_string(&file).context(*path)?;
        let wanted = render(&present).context(*path)?;
        if wanted == present {
            continue;
        }
        if cli.check {
            let at = present.lines().zip(wanted.lines());
            let line = at.take_while(|(present, wanted)| present == wanted).count() + 1;
            stale.push(format!("{path}:{line}"));
        } else {
            std::fs::write(&file, wanted)?;
            eprintln!("wrote {path}");
        }
    }
    if !stale.is_empty() {
        bail!(
            "{} differs from what the code declares: run `cargo xtask generate`",
            stale.join(", ")
        );
    }
    Ok(())
}
