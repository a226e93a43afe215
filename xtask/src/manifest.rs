//! `cargo xtask manifest`: a manifest for hosts with fewer triggers than Spin.

use anyhow::{Context, Result};
use clap::Args;
use toml::{Table, Value};

use crate::steps::root;

/// The options of `cargo xtask manifest`.
#[derive(Args)]
pub(crate) struct Manifest {
    /// Leave out the Redis and cron triggers, and the components that only they call
    #[arg(long, required = true)]
    http_only: bool,
}

impl Manifest {
    pub(crate) fn run(self) -> Result<()> {
        let manifest = std::fs::read_to_string(root().join("spin.toml"))?;
        print!("{}", http_only(&manifest)?);
        Ok(())
    }
}

/// Reduces a manifest to its HTTP triggers. A variable that no remaining component names is left out, too, because a host
/// may require a value for each.
fn http_only(manifest: &str) -> Result<String> {
    let mut manifest: Table = manifest.parse().context("spin.toml")?;
    let triggers = table(&mut manifest, "trigger")?;
    triggers.retain(|kind, _| kind == "http");
    let called: Vec<String> = triggers
        .get("http")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|trigger| Some(trigger.get("component")?.as_str()?.to_owned()))
        .collect();
    let components = table(&mut manifest, "component")?;
    components.retain(|id, _| called.iter().any(|name| name == id));
    let text = toml::to_string(components)?;
    table(&mut manifest, "variables")?
        .retain(|name, _| text.contains(&format!("{{{{ {name} }}}}")));
    table(&mut manifest, "application")?.remove("trigger");
    Ok(toml::to_string_pretty(&manifest)?)
}

fn table<'a>(of: &'a mut Table, name: &str) -> Result<&'a mut Table> {
    of.get_mut(name)
        .and_then(Value::as_table_mut)
        .with_context(|| format!("spin.toml has no [{name}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_left() {
        let manifest = include_str!("../../spin.toml");
        let less: Table = http_only(manifest).unwrap().parse().unwrap();
        let names =
            |name: &str| -> Vec<&String> { less[name].as_table().unwrap().keys().collect() };
        assert_eq!(names("trigger"), ["http"]);
        let components = names("component");
        assert!(
            !components.contains(&&"events".to_owned()),
            "{components:?}"
        );
        assert!(!components.contains(&&"cron".to_owned()), "{components:?}");
        assert!(components.contains(&&"poller".to_owned()), "{components:?}");
        assert!(!names("variables").contains(&&"app_url".to_owned()));
        assert!(names("variables").contains(&&"redis_url".to_owned()));
        assert!(less["application"].get("trigger").is_none());
    }
}
