//! `cargo xtask manifest`: the manifest for each host, derived from `spin.toml` by the rules of that host.

mod host;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use toml::{Table, Value};

use crate::{build, steps::root};
use host::{Host, HostName};

/// The variable with the address of a libSQL server.
const DATABASE_URL: &str = "database_url";

/// The variables that the build for libSQL reads, and their declarations. A host without SQLite requires an address in
/// `allowed_outbound_hosts`, so the default is an address that can never exist (RFC 2606).
const DATABASE_VARIABLES: [(&str, &str); 2] = [
    (DATABASE_URL, "default = 'https://not-set.invalid'"),
    ("database_token", "default = ''\nsecret = true"),
];

/// The options of `cargo xtask manifest`.
#[derive(Args)]
pub(crate) struct Manifest {
    /// The host that is to run the app
    #[arg(long = "for", value_enum, value_name = "HOST")]
    host: HostName,
    /// The version of Spin's cron plugin; by default 0.3 if the host has cron triggers, else none
    #[arg(long, value_enum, value_name = "VERSION")]
    cron: Option<Cron>,
}

/// The part that asks the app every ten seconds to do what is due.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Cron {
    /// The cron trigger of the plugin 0.3
    #[value(name = "0.3")]
    V0_3,
    /// The cron trigger of the plugin 0.6, whose WIT is newer
    #[value(name = "0.6")]
    V0_6,
    /// The relay, with `--tick`
    None,
}

impl Manifest {
    /// Prints the manifest, and on standard error what does not work on that host.
    pub(crate) fn run(self) -> Result<()> {
        let text = std::fs::read_to_string(root().join("spin.toml"))?;
        let host = self.host.rules();
        print!("{}", derive(&text, self.host, self.cron)?);
        if cron(host, self.cron)? == Cron::None {
            eprintln!(
                "note: the app has no cron trigger, so start at least one relay with --tick."
            );
        }
        if let Some(warning) = host.warning {
            eprintln!("note: {warning}");
        }
        Ok(())
    }
}

/// The manifest for a host, for tests of files that go with it.
#[cfg(test)]
pub(crate) fn derived(host: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join("spin.toml"))?;
    let host = HostName::from_str(host, false).map_err(anyhow::Error::msg)?;
    derive(&text, host, None)
}

/// Derives the manifest for a host from the text of `spin.toml`. If nothing changes, it is that text.
///
/// # Errors
/// If the operator asks for a trigger that the host does not have.
fn derive(text: &str, name: HostName, wanted: Option<Cron>) -> Result<String> {
    let host = name.rules();
    let cron = cron(host, wanted)?;
    let original: Table = text.parse().context("spin.toml")?;
    let mut manifest = original.clone();
    keep_triggers(&mut manifest, |kind| {
        host.triggers.contains(&kind) && (cron != Cron::None || kind != "cron")
    })?;
    if cron == Cron::V0_6 {
        take_the_newer_cron(&mut manifest)?;
    }
    if !host.calls_itself {
        forbid_calls_of_itself(&mut manifest)?;
    }
    if !host.has_sqlite {
        put_tables_on_libsql(&mut manifest)?;
    }
    let all = [
        ("environment", host.environment),
        ("instance_memory_mib", host.instance_memory),
    ];
    for (name, value) in all.iter().chain(host.limits).copied() {
        let variable = table(table(&mut manifest, "variables")?, name)?;
        variable.insert("default".into(), value.into());
    }
    keep_variables(&mut manifest)?;
    if manifest == original {
        return Ok(text.to_owned());
    }
    let option = name.to_possible_value();
    let mut option = option.map_or_else(String::new, |value| value.get_name().to_owned());
    if let Some(cron) = wanted.and_then(|cron| cron.to_possible_value()) {
        option.push_str(&format!(" --cron {}", cron.get_name()));
    }
    let derived = toml::to_string_pretty(&manifest)?;
    Ok(format!(
        "# Printed by `cargo xtask manifest --for {option}` from spin.toml. Change that file.\n\n{derived}"
    ))
}

/// Decides which part ticks.
///
/// # Errors
/// If the operator asks for a cron trigger that the host does not have.
fn cron(host: &Host, wanted: Option<Cron>) -> Result<Cron> {
    match (host.triggers.contains(&"cron"), wanted) {
        (true, wanted) => Ok(wanted.unwrap_or(Cron::V0_3)),
        (false, Some(Cron::V0_3 | Cron::V0_6)) => bail!(
            "{} has no cron trigger: leave out --cron, and start the relay with --tick",
            host.name
        ),
        (false, _) => Ok(Cron::None),
    }
}

/// Replaces the component that the plugin 0.3 calls with the one for 0.6.
fn take_the_newer_cron(manifest: &mut Table) -> Result<()> {
    let component = table(table(manifest, "component")?, "cron")?;
    let newer = toml::to_string(component)?
        .replace("cron_tick", "cron_tick_v3")
        .replace("cron-tick", "cron-tick-v3");
    *component = newer.parse()?;
    Ok(())
}

/// Takes every component from the build for libSQL, and gives those with databases the variables of a libSQL server
/// instead.
fn put_tables_on_libsql(manifest: &mut Table) -> Result<()> {
    for (id, component) in table(manifest, "component")?.iter_mut() {
        let component = component.as_table_mut().context("no component")?;
        let source = component.get("source").and_then(Value::as_str);
        let source = source.with_context(|| format!("{id} has no source"))?;
        let source = source.replacen("target", build::LIBSQL_TARGET, 1);
        component.insert("source".into(), source.into());
        if let Some(command) = component
            .get_mut("build")
            .and_then(|build| build.get_mut("command"))
        {
            *command = "cargo xtask build --hrana".into();
        }
        if component.remove("sqlite_databases").is_none() {
            continue;
        }
        let hosts = component.entry("allowed_outbound_hosts");
        let hosts = hosts.or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(hosts) = hosts {
            hosts.push(format!("{{{{ {DATABASE_URL} }}}}").into());
        }
        for (name, _) in DATABASE_VARIABLES {
            let value = format!("{{{{ {name} }}}}");
            table(component, "variables")?.insert(name.into(), value.into());
        }
    }
    let variables = table(manifest, "variables")?;
    for (name, default) in DATABASE_VARIABLES {
        variables.insert(name.into(), default.parse::<Table>()?.into());
    }
    Ok(())
}

/// Keeps the triggers of some kinds, and the components that they call.
fn keep_triggers(manifest: &mut Table, keep: impl Fn(&str) -> bool) -> Result<()> {
    let triggers = table(manifest, "trigger")?;
    triggers.retain(|kind, _| keep(kind));
    let called: BTreeSet<String> = triggers
        .values()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|trigger| Some(trigger.get("component")?.as_str()?.to_owned()))
        .collect();
    table(manifest, "component")?.retain(|id, _| called.contains(id));
    let application = table(manifest, "application")?;
    let settings = table(application, "trigger")?;
    settings.retain(|kind, _| keep(kind));
    if settings.is_empty() {
        application.remove("trigger");
    }
    Ok(())
}

fn forbid_calls_of_itself(manifest: &mut Table) -> Result<()> {
    for (_, component) in table(manifest, "component")?.iter_mut() {
        if let Some(Value::Array(hosts)) = component.get_mut("allowed_outbound_hosts") {
            hosts.retain(|host| !host.as_str().is_some_and(is_the_app));
        }
    }
    Ok(())
}

/// Returns whether an entry of `allowed_outbound_hosts` is the app itself.
fn is_the_app(host: &str) -> bool {
    let authority = host.split_once("://").map_or(host, |(_, rest)| rest);
    authority == "self" || authority.ends_with(".spin.internal")
}

/// Removes the variables that nothing else names, because a host may require a value for each.
fn keep_variables(manifest: &mut Table) -> Result<()> {
    let mut rest = manifest.clone();
    rest.remove("variables");
    let rest = toml::to_string(&rest)?;
    let variables = table(manifest, "variables")?;
    variables.retain(|name, _| rest.contains(&format!("{{{{ {name} }}}}")));
    Ok(())
}

fn table<'a>(of: &'a mut Table, name: &str) -> Result<&'a mut Table> {
    of.get_mut(name)
        .and_then(Value::as_table_mut)
        .with_context(|| format!("spin.toml has no [{name}]"))
}
