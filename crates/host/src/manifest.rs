//! The manifest: `spin.toml`, version 2, read and checked as Spin does it.
//!
//! What Spin refuses is refused here, and what this host cannot do although Spin can (a component
//! from a URL, a trigger of another type) is refused with a sentence that says so, never ignored.
//! Every error is one line: the file, the key, what is wrong.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use file::{CronConfig, File, HttpConfig, RawComponent, RedisConfig, RedisSettings, Trigger};

use crate::allowed_hosts::AllowedHosts;
use crate::routes::Route;
use crate::variables::Template;

/// A manifest that was read and found right.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The folder that paths in the manifest are relative to.
    pub folder: PathBuf,
    /// The application's name.
    pub name: String,
    /// Application variables by name.
    pub variables: BTreeMap<String, Variable>,
    /// Components by id.
    pub components: BTreeMap<String, Component>,
    /// HTTP triggers in the order of the manifest.
    pub http: Vec<HttpTrigger>,
    /// Redis triggers in the order of the manifest.
    pub redis: Vec<RedisTrigger>,
    /// Cron triggers in the order of the manifest.
    pub cron: Vec<CronTrigger>,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct ManifestError {
    /// The manifest's path as it was given.
    pub file: String,
    /// The key and what is wrong with it, in one line.
    pub what: String,
}

/// An application variable: it has a default, or somebody must give it a value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// The value when nobody gives one.
    pub default: Option<String>,
    /// Whether a value must be given.
    #[serde(default)]
    pub required: bool,
    /// Whether the value must never appear in a log.
    #[serde(default)]
    pub secret: bool,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

/// A component: its Wasm and what it may reach.
#[derive(Debug, Clone)]
pub struct Component {
    /// The component's Wasm file.
    pub source: PathBuf,
    /// Variables it may read, as templates over the application's.
    pub variables: BTreeMap<String, Template>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Files that it sees.
    pub files: Vec<Files>,
    /// Globs of files that it doesn't see though `files` names them.
    pub exclude_files: Vec<String>,
    /// Hosts that it may call, as templates.
    pub allowed_outbound_hosts: Vec<Template>,
    /// Key-value stores that it may open.
    pub key_value_stores: BTreeSet<String>,
    /// SQLite databases that it may open.
    pub sqlite_databases: BTreeSet<String>,
}

/// Files of a component, relative to the manifest's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// A glob, or one path; the guest sees them under the same relative path.
    Pattern(String),
    /// A file or a folder under another name.
    Placement {
        /// Path on this machine.
        source: String,
        /// Path in the guest.
        destination: String,
    },
}

/// An HTTP trigger.
#[derive(Debug, Clone)]
pub struct HttpTrigger {
    /// The component's id.
    pub component: String,
    /// Its public route; `None` for a private one, reached by service chaining only.
    pub route: Option<Route>,
}

/// A Redis trigger.
#[derive(Debug, Clone)]
pub struct RedisTrigger {
    /// The component's id.
    pub component: String,
    /// The exact channel.
    pub channel: Template,
    /// The server, e.g. `redis://127.0.0.1:6379`.
    pub address: Template,
}

/// A cron trigger.
#[derive(Debug, Clone)]
pub struct CronTrigger {
    /// The component's id.
    pub component: String,
    /// When it fires, UTC; the expression has seconds first.
    pub schedule: cron::Schedule,
}

/// The rules of an id: words of one case, with `delimiter` between them.
fn check_id(id: &str, delimiter: char) -> Result<(), String> {
    for word in id.split(delimiter) {
        let mut chars = word.chars();
        let Some(first) = chars.next() else {
            return Err(format!("{id:?} has an empty word"));
        };
        if !first.is_ascii_alphabetic() {
            return Err(format!("{id:?}: each word must start with a letter"));
        }
        let upper = first.is_ascii_uppercase();
        for c in chars {
            if !c.is_ascii_alphanumeric() {
                return Err(format!(
                    "{id:?}: words are letters and digits with {delimiter:?} between them"
                ));
            }
            if c.is_ascii_alphabetic() && c.is_ascii_uppercase() != upper {
                return Err(format!("{id:?}: a word is all lowercase or all uppercase"));
            }
        }
    }
    Ok(())
}

/// The rules of a variable's name: `lower_snake_case`.
fn check_variable_name(name: &str) -> Result<(), String> {
    check_id(name, '_')?;
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!("{name:?} must be lower_snake_case"));
    }
    Ok(())
}

fn labels(list: Vec<String>, key: &str) -> Result<BTreeSet<String>, String> {
    for label in &list {
        if check_id(label, '-').is_err() && check_id(label, '_').is_err() {
            return Err(format!("{key}: {label:?} must be kebab-case or snake_case"));
        }
    }
    Ok(list.into_iter().collect())
}

/// Turns a table into one of the types above, keeping the error to one line.
fn typed<T: serde::de::DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    toml::Value::Table(table)
        .try_into()
        .map_err(|e: toml::de::Error| one_line(e.message()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
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

    /// Checks a manifest's text; `folder` is what its paths are relative to. The error is the key
    /// and what is wrong with it.
    pub fn parse(text: &str, folder: PathBuf) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e
                .span()
                .map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            match line {
                Some(line) => format!("line {line}: {}", one_line(e.message())),
                None => one_line(e.message()),
            }
        })?;
        if file.spin_manifest_version.as_integer() != Some(2) {
            return Err(format!(
                "spin_manifest_version: must be 2, not {}",
                file.spin_manifest_version
            ));
        }
        if file.application.name.is_empty() {
            return Err("application.name: must not be empty".into());
        }
        for (name, variable) in &file.variables {
            check_variable_name(name).map_err(|e| format!("variables: {e}"))?;
            if variable.required == variable.default.is_some() {
                return Err(format!(
                    "variables.{name}: must be `required` or have a `default`, not both"
                ));
            }
        }

        let mut manifest = Manifest {
            folder,
            name: file.application.name,
            variables: file.variables,
            components: BTreeMap::new(),
            http: Vec::new(),
            redis: Vec::new(),
            cron: Vec::new(),
        };
        for (id, component) in file.component {
            check_id(&id, '-').map_err(|e| format!("component: {e}"))?;
            let component = manifest
                .component(component)
                .map_err(|e| format!("component.{id}.{e}"))?;
            manifest.components.insert(id, component);
        }
        let redis_address = manifest.application_triggers(file.application.trigger)?;
        for (kind, triggers) in file.trigger {
            for (index, trigger) in triggers.into_iter().enumerate() {
                let key = format!("trigger.{kind}[{index}]");
                manifest
                    .trigger(&kind, index, trigger, redis_address.as_deref())
                    .map_err(|e| format!("{key}{e}"))?;
            }
        }
        crate::routes::Router::build(&manifest.http)?;
        Ok(manifest)
    }

    /// `[application.trigger.*]`; answers the Redis trigger's default address.
    fn application_triggers(
        &self,
        settings: BTreeMap<String, toml::Table>,
    ) -> Result<Option<String>, String> {
        let mut address = None;
        for (kind, table) in settings {
            let key = format!("application.trigger.{kind}");
            match kind.as_str() {
                "redis" => {
                    let settings: RedisSettings =
                        typed(table).map_err(|e| format!("{key}: {e}"))?;
                    address = Some(settings.address);
                }
                "http"
                    if table
                        .get("base")
                        .is_some_and(|base| base.as_str() != Some("/")) =>
                {
                    return Err(format!("{key}.base: Spin supports no base path any more"));
                }
                _ => {}
            }
        }
        Ok(address)
    }

    fn template(&self, text: &str) -> Result<Template, String> {
        let template = Template::parse(text)?;
        for name in template.names() {
            if !self.variables.contains_key(name) {
                return Err(format!("unknown variable {name:?} in {text:?}"));
            }
        }
        Ok(template)
    }

    fn component(&self, raw: RawComponent) -> Result<Component, String> {
        let source = match &raw.source {
            toml::Value::String(path) => self.folder.join(path),
            toml::Value::Table(table)
                if table.contains_key("url") || table.contains_key("package") =>
            {
                return Err("source: this host runs local files only; download the component and name its path".into());
            }
            _ => return Err("source: must be a path".into()),
        };
        if !raw.dependencies.is_empty() {
            return Err("dependencies: this host doesn't compose components".into());
        }
        if !raw.ai_models.is_empty() {
            return Err("ai_models: this host has no models".into());
        }
        if !raw.allowed_http_hosts.is_empty() {
            return Err("allowed_http_hosts: was replaced; use allowed_outbound_hosts".into());
        }
        let mut variables = BTreeMap::new();
        for (name, text) in &raw.variables {
            check_variable_name(name).map_err(|e| format!("variables: {e}"))?;
            let template = self
                .template(text)
                .map_err(|e| format!("variables.{name}: {e}"))?;
            variables.insert(name.clone(), template);
        }
        let mut hosts = Vec::new();
        for host in &raw.allowed_outbound_hosts {
            let key = "allowed_outbound_hosts";
            let template = self.template(host).map_err(|e| format!("{key}: {e}"))?;
            // With defaults for every variable the address itself can be checked already.
            let by_default =
                template.resolve(|name| self.variables.get(name).and_then(|v| v.default.clone()));
            if let Some(resolved) = by_default {
                AllowedHosts::parse_one(&resolved, !template.is_literal())
                    .map_err(|e| format!("{key}: {e}"))?;
            }
            hosts.push(template);
        }
        let files = raw.files.iter().map(files).collect::<Result<_, _>>()?;
        for pattern in &raw.exclude_files {
            glob::Pattern::new(pattern).map_err(|e| format!("exclude_files: {pattern:?}: {e}"))?;
        }
        Ok(Component {
            source,
            variables,
            environment: raw.environment.into_iter().collect(),
            files,
            exclude_files: raw.exclude_files,
            allowed_outbound_hosts: hosts,
            key_value_stores: labels(raw.key_value_stores, "key_value_stores")?,
            sqlite_databases: labels(raw.sqlite_databases, "sqlite_databases")?,
        })
    }

    fn trigger(
        &mut self,
        kind: &str,
        index: usize,
        raw: Trigger,
        address: Option<&str>,
    ) -> Result<(), String> {
        if !raw.components.is_empty() || !raw.dependencies.is_empty() {
            return Err(": this host doesn't compose components".into());
        }
        let component = match raw.component {
            Some(toml::Value::String(id)) => {
                if !self.components.contains_key(&id) {
                    return Err(format!(".component: there is no component {id:?}"));
                }
                id
            }
            Some(inline) => {
                let inline: RawComponent = inline.try_into().map_err(|e: toml::de::Error| {
                    format!(".component: {}", one_line(e.message()))
                })?;
                let component = self
                    .component(inline)
                    .map_err(|e| format!(".component.{e}"))?;
                let natural = format!("{}-component", raw.id);
                let id = std::iter::once(natural)
                    .filter(|id| check_id(id, '-').is_ok())
                    .chain((1..).map(|n| format!("inline-component{n}")))
                    .find(|id| !self.components.contains_key(id))
                    .unwrap_or_else(|| format!("inline-{kind}{index}"));
                self.components.insert(id.clone(), component);
                id
            }
            None if raw.config.contains_key("static_response") => {
                return Err(".static_response: this host serves components only".into());
            }
            None => return Err(".component: is missing".into()),
        };
        let config = raw.config;
        match kind {
            "http" => {
                let config: HttpConfig = typed(config).map_err(|e| format!(": {e}"))?;
                if let Some(executor) = config.executor
                    && !matches!(executor.r#type.as_str(), "http" | "spin")
                {
                    return Err(format!(".executor: this host has no {:?}", executor.r#type));
                }
                let route = route(&config.route).map_err(|e| format!(".route: {e}"))?;
                self.http.push(HttpTrigger { component, route });
            }
            "redis" => {
                let config: RedisConfig = typed(config).map_err(|e| format!(": {e}"))?;
                let Some(address) = config.address.as_deref().or(address) else {
                    return Err(
                        ".address: is missing, and so is application.trigger.redis.address".into(),
                    );
                };
                let channel = self
                    .template(&config.channel)
                    .map_err(|e| format!(".channel: {e}"))?;
                let address = self
                    .template(address)
                    .map_err(|e| format!(".address: {e}"))?;
                self.redis.push(RedisTrigger {
                    component,
                    channel,
                    address,
                });
            }
            "cron" => {
                let config: CronConfig = typed(config).map_err(|e| format!(": {e}"))?;
                let schedule = crate::cron_trigger::schedule(&config.cron_expression)
                    .map_err(|e| format!(".cron_expression: {e}"))?;
                self.cron.push(CronTrigger {
                    component,
                    schedule,
                });
            }
            other => {
                return Err(format!(
                    ": this host has no trigger {other:?} (it has http, redis and cron)"
                ));
            }
        }
        Ok(())
    }
}

fn files(value: &toml::Value) -> Result<Files, String> {
    match value {
        toml::Value::String(pattern) => Ok(Files::Pattern(pattern.clone())),
        toml::Value::Table(table) if table.len() == 2 => {
            match (
                table.get("source").and_then(|v| v.as_str()),
                table.get("destination").and_then(|v| v.as_str()),
            ) {
                (Some(source), Some(destination)) => Ok(Files::Placement {
                    source: source.to_owned(),
                    destination: destination.to_owned(),
                }),
                _ => Err("files: a table needs `source` and `destination`, both strings".into()),
            }
        }
        _ => Err("files: must be a pattern or { source, destination }".into()),
    }
}

fn route(value: &toml::Value) -> Result<Option<Route>, String> {
    match value {
        toml::Value::String(text) => Route::parse(text).map(Some),
        toml::Value::Table(table) if table.len() == 1 => match table.get("private") {
            Some(toml::Value::Boolean(true)) => Ok(None),
            _ => Err("must be a string or { private = true }".into()),
        },
        _ => Err("must be a string or { private = true }".into()),
    }
}

#[cfg(test)]
mod tests;
