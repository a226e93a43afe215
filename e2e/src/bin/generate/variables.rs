//! The variables of `spin.toml`, the addresses of services in it, and the table of variables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use e2e::manifest::{named_in, settings_read};
use loro_host::declarations;
use platform::{Form, setting::Preset};

use crate::markdown;

/// The line of `spin.toml` above the generated part.
const MARK: &str = "# What follows is written by `cargo xtask generate`, from the settings that the code declares.\n";

/// The line of `spin.toml` above the addresses in a component's list of hosts.
const HOSTS: &str =
    "    # The addresses of services and of the bucket, by `cargo xtask generate`:\n";

/// The greatest width of a comment, in columns.
const WIDTH: usize = 116;

/// Writes the variables into the manifest: all of them, and for each component those that its code reads; and the
/// addresses of services that a component reads into its list of hosts.
///
/// # Errors
/// If a component, or the part that is written by hand, names a setting that is not declared, or if neither names a
/// declared setting.
pub(crate) fn manifest(text: &str) -> Result<String> {
    let (by_hand, _) = text.split_once(MARK).context("the mark is missing")?;
    let read = settings_read(&by_hand.parse()?)?;
    let by_hand = &with_hosts(by_hand, &read)?;
    let declared: BTreeSet<&str> = declarations().map(|one| one.setting.name()).collect();
    let by_components = read.values().flatten().map(String::as_str);
    let used: BTreeSet<&str> = by_components.chain(named_in(by_hand)).collect();
    ensure!(
        declared == used,
        "not declared, or not used: {:?}",
        declared.symmetric_difference(&used)
    );
    let mut text = format!("{by_hand}{MARK}\n[variables]\n");
    for declaration in declarations() {
        for line in wrapped(declaration.about) {
            writeln!(text, "# {line}")?;
        }
        let name = declaration.setting.name();
        let (default, more) = match declaration.preset {
            Preset::Unset => ("", ""),
            Preset::Secret => ("", ", secret = true"),
            Preset::Value(value) | Preset::Placeholder(value) => (value, ""),
        };
        writeln!(text, "{name} = {{ default = {default:?}{more} }}")?;
    }
    for (component, read) in &read {
        writeln!(text, "\n[component.{component}.variables]")?;
        for name in declarations().map(|one| one.setting.name()) {
            if read.contains(name) {
                writeln!(text, "{name} = \"{{{{ {name} }}}}\"")?;
            }
        }
    }
    Ok(text)
}

/// Writes the addresses of services into the lists of hosts that have the mark for them. The operator set these
/// addresses, so a component may call them even if they are in a private network.
fn with_hosts(by_hand: &str, read: &BTreeMap<String, BTreeSet<String>>) -> Result<String> {
    let mut lists = by_hand.split(HOSTS);
    let mut text = lists.next().unwrap_or_default().to_owned();
    for list in lists {
        let (_, component) = text.rsplit_once("[component.").context("no component")?;
        let (component, _) = component.split_once(']').context("no component")?;
        let read = read.get(component).context("no such component")?;
        let (_, rest) = list.split_once("]\n").context("an open list of hosts")?;
        let mut hosts = String::new();
        for one in tasks::settings().filter(|one| one.form == Form::Origin) {
            if read.contains(one.setting.name()) {
                writeln!(hosts, "    \"{{{{ {} }}}}\",", one.setting)?;
            }
        }
        text += &format!("{HOSTS}{hosts}]\n{rest}");
    }
    Ok(text)
}

/// The table of settings.
pub(crate) fn table() -> String {
    let rows = declarations().map(|one| {
        let default = match one.preset {
            Preset::Unset | Preset::Placeholder(_) => "none".into(),
            Preset::Secret => "none; a secret".into(),
            Preset::Value(value) => format!("`{value}`"),
        };
        [
            format!("`{}`", one.setting),
            default,
            one.about.trim().into(),
        ]
    });
    markdown::table(["Variable", "Default", ""], rows)
}

/// Breaks a sentence into lines, and ends it with a full stop.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].len() + word.len() >= WIDTH {
            lines.push(word.to_owned());
        } else if lines[last].is_empty() {
            lines[last].push_str(word);
        } else {
            lines[last] = format!("{} {word}", lines[last]);
        }
    }
    if let Some(last) = lines.last_mut() {
        last.push('.');
    }
    lines
}
