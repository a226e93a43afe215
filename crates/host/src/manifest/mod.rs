//! The manifest: `spin.toml`, version 2, as far as this app uses it.
//!
//! This host refuses what Spin refuses, and also what Spin supports but this host does not. It ignores nothing that
//! changes how the app runs. An error is one line: the file, the key, what is wrong.

mod file;
pub(crate) mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use self::file::{File, RawComponent, RawTrigger};
use self::typed::one_line;
use crate::cron_trigger::manifest::CronTrigger;
use crate::http_trigger::manifest::HttpTrigger;
use crate::http_trigger::router::Router;
use crate::outbound_networking::allowed_hosts::AllowedHosts;
use crate::redis_trigger::manifest::{self as redis_trigger, RedisTrigger};
use crate::variables::manifest::{Declared, Template};
use crate::{key_value, names, sqlite};

/// A manifest that was read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    /// The folder that paths in the manifest are relative to.
    pub(crate) folder: PathBuf,
    /// The application's variables.
    pub(crate) variables: Declared,
    /// The components by id.
    pub(crate) components: BTreeMap<String, Component>,
    /// The HTTP triggers in the order of the manifest.
    pub(crate) http: Vec<HttpTrigger>,
    /// The server of all Redis triggers.
    pub(crate) redis_address: Option<Template>,
    /// The Redis triggers in the order of the manifest.
    pub(crate) redis: Vec<RedisTrigger>,
    /// The cron triggers in the order of the manifest.
    pub(crate) cron: Vec<CronTrigger>,
}

/// A component: its Wasm and what it may use.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    /// The component's Wasm file.
    pub(crate) source: PathBuf,
    /// The variables that it may read, as templates over the application's.
    pub(crate) variables: BTreeMap<String, Template>,
    /// The hosts that it may call, as templates.
    pub(crate) allowed_outbound_hosts: Vec<Template>,
    /// The key-value stores that it may open.
    pub(crate) key_value_stores: BTreeSet<String>,
    /// The SQLite databases that it may open.
    pub(crate) sqlite_databases: BTreeSet<String>,
}

/// The error of a manifest that is refused.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub(crate) struct ManifestError {
    /// The manifest's path as it was given.
    file: String,
    /// The key and what is wrong with it, in one line.
    what: String,
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, ManifestError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ManifestError {
            file: file.clone(),
            what: format!("cannot be read: {e}"),
        })?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Self::parse(&text, folder).map_err(|what| ManifestError { file, what })
    }

    /// Checks a manifest's text; its paths are relative to `folder`. The error is the key and what is wrong with it.
    fn parse(text: &str, folder: PathBuf) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        if file.spin_manifest_version.as_integer() != Some(2) {
            return Err(format!(
                "spin_manifest_version: must be 2, not {}",
                file.spin_manifest_version
            ));
        }
        if file.application.name.is_empty() {
            return Err("application.name: must not be empty".into());
        }
        let mut manifest = Self {
            folder,
            variables: Declared::check(file.variables)?,
            components: BTreeMap::new(),
            http: Vec::new(),
            redis_address: None,
            redis: Vec::new(),
            cron: Vec::new(),
        };
        for (id, raw) in file.component {
            names::check_id(&id, '-').map_err(|e| format!("component: {e}"))?;
            let component = manifest.component(raw);
            let component = component.map_err(|e| format!("component.{id}.{e}"))?;
            manifest.components.insert(id, component);
        }
        for (kind, table) in file.application.trigger {
            manifest.application_trigger(&kind, table)?;
        }
        for (kind, triggers) in file.trigger {
            for (index, trigger) in triggers.into_iter().enumerate() {
                manifest.trigger(&kind, &format!("trigger.{kind}[{index}]"), trigger)?;
            }
        }
        Router::build(&manifest.http)?;
        Ok(manifest)
    }

    /// Reads `[application.trigger.*]`.
    fn application_trigger(&mut self, kind: &str, table: Table) -> Result<(), String> {
        let key = format!("application.trigger.{kind}");
        if kind != "redis" {
            return Err(format!(
                "{key}: this host has settings of Redis triggers only"
            ));
        }
        self.redis_address = Some(redis_trigger::address(&key, table, &self.variables)?);
        Ok(())
    }

    fn component(&self, raw: RawComponent) -> Result<Component, String> {
        if let Some((key, reason)) = raw.refused() {
            return Err(format!("{key}: {reason}"));
        }
        let Value::String(source) = &raw.source else {
            return Err(
                "source: this host runs local files only; download the component and name its path"
                    .into(),
            );
        };
        let mut variables = BTreeMap::new();
        for (name, text) in raw.variables {
            names::check_variable(&name).map_err(|e| format!("variables: {e}"))?;
            let template = self.variables.template(&text);
            let template = template.map_err(|e| format!("variables.{name}: {e}"))?;
            variables.insert(name, template);
        }
        let hosts = raw.allowed_outbound_hosts.iter();
        let hosts = hosts
            .map(|host| self.allowed_host(host))
            .collect::<Result<_, _>>();
        Ok(Component {
            source: self.folder.join(source),
            variables,
            allowed_outbound_hosts: hosts.map_err(|e| format!("allowed_outbound_hosts: {e}"))?,
            key_value_stores: key_value::manifest::stores(raw.key_value_stores)?,
            sqlite_databases: sqlite::manifest::databases(raw.sqlite_databases)?,
        })
    }

    /// Checks an entry of `allowed_outbound_hosts`, its address only if every variable in it has a default.
    fn allowed_host(&self, text: &str) -> Result<Template, String> {
        let template = self.variables.template(text)?;
        if let Some(host) = self.variables.by_default(&template) {
            AllowedHosts::parse_one(&host, !template.is_literal())?;
        }
        Ok(template)
    }

    fn trigger(&mut self, kind: &str, key: &str, raw: RawTrigger) -> Result<(), String> {
        if let Some((refused, reason)) = raw.refused() {
            return Err(format!("{key}.{refused}: {reason}"));
        }
        let component = match raw.component {
            Some(Value::String(id)) if self.components.contains_key(&id) => id,
            Some(Value::String(id)) => {
                return Err(format!("{key}.component: there is no component {id:?}"));
            }
            Some(_) => {
                return Err(format!(
                    "{key}.component: this host has no inline components; name one by its id"
                ));
            }
            None => return Err(format!("{key}.component: is missing")),
        };
        let config = raw.config;
        match kind {
            "http" => self.http.push(HttpTrigger::parse(key, component, config)?),
            "redis" => {
                let trigger = RedisTrigger::parse(key, component, config, &self.variables)?;
                if self.redis_address.is_none() {
                    return Err(format!(
                        "{key}: there is no server; set application.trigger.redis.address"
                    ));
                }
                self.redis.push(trigger);
            }
            "cron" => self.cron.push(CronTrigger::parse(key, component, config)?),
            other => {
                return Err(format!(
                    "{key}: this host has no trigger {other:?} (it has http, redis and cron)"
                ));
            }
        }
        Ok(())
    }
}

/// An error of the TOML itself, with its line.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let message = one_line(error.message());
    match error.span() {
        Some(span) => {
            let before = &text[..span.start.min(text.len())];
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}

#[cfg(test)]
mod tests;
