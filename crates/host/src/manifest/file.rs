//! The fields that the file may have. Keys that say how an app is built or published are read and not used; keys
//! that Spin knows and this host refuses are named here, so that they are refused with a reason.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

use crate::variables::manifest::Variable;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) spin_manifest_version: Value,
    pub(crate) application: Application,
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) trigger: BTreeMap<String, Vec<RawTrigger>>,
    #[serde(default)]
    pub(crate) component: BTreeMap<String, RawComponent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Application {
    pub(crate) name: String,
    #[serde(default, rename = "version")]
    _version: String,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default, rename = "authors")]
    _authors: Vec<String>,
    #[serde(default, rename = "targets")]
    _targets: Vec<Value>,
    #[serde(default)]
    pub(crate) trigger: BTreeMap<String, Table>,
    #[serde(default, rename = "tool")]
    _tool: BTreeMap<String, Table>,
}

#[derive(Deserialize)]
pub(crate) struct RawTrigger {
    #[serde(default, rename = "id")]
    _id: String,
    pub(crate) component: Option<Value>,
    components: Option<Value>,
    dependencies: Option<Value>,
    static_response: Option<Value>,
    /// The keys of its kind of trigger.
    #[serde(flatten)]
    pub(crate) config: Table,
}

impl RawTrigger {
    /// The first key that this host refuses, with the reason.
    pub(crate) fn refused(&self) -> Option<(&'static str, &'static str)> {
        let keys = [
            (
                &self.components,
                "components",
                "this host composes no components",
            ),
            (
                &self.dependencies,
                "dependencies",
                "this host composes no components",
            ),
            (
                &self.static_response,
                "static_response",
                "this host serves components only",
            ),
        ];
        first(&keys)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawComponent {
    pub(crate) source: Value,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    pub(crate) key_value_stores: Vec<String>,
    #[serde(default)]
    pub(crate) sqlite_databases: Vec<String>,
    #[serde(default, rename = "targets")]
    _targets: Option<Value>,
    #[serde(default, rename = "build")]
    _build: Option<Build>,
    #[serde(default, rename = "tool")]
    _tool: Option<Table>,
    ai_models: Option<Value>,
    allowed_http_hosts: Option<Value>,
    dependencies: Option<Value>,
    dependencies_inherit_configuration: Option<Value>,
    environment: Option<Value>,
    exclude_files: Option<Value>,
    files: Option<Value>,
    profile: Option<Value>,
}

impl RawComponent {
    /// The first key that this host refuses, with the reason.
    pub(crate) fn refused(&self) -> Option<(&'static str, &'static str)> {
        let no_files = "this host mounts no files; embed them in the component";
        let no_composing = "this host composes no components";
        let inherit = &self.dependencies_inherit_configuration;
        let keys = [
            (&self.ai_models, "ai_models", "this host has no models"),
            (
                &self.allowed_http_hosts,
                "allowed_http_hosts",
                "Spin has replaced it; use allowed_outbound_hosts",
            ),
            (&self.dependencies, "dependencies", no_composing),
            (inherit, "dependencies_inherit_configuration", no_composing),
            (
                &self.environment,
                "environment",
                "this host gives components no environment; use variables",
            ),
            (&self.exclude_files, "exclude_files", no_files),
            (&self.files, "files", no_files),
            (
                &self.profile,
                "profile",
                "this host runs components without profiles",
            ),
        ];
        first(&keys)
    }
}

type Key<'a> = (&'a Option<Value>, &'static str, &'static str);

fn first(keys: &[Key<'_>]) -> Option<(&'static str, &'static str)> {
    keys.iter()
        .find(|(value, ..)| value.is_some())
        .map(|(_, key, reason)| (*key, *reason))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    #[serde(rename = "command")]
    _command: Value,
    #[serde(default, rename = "workdir")]
    _workdir: Option<String>,
    #[serde(default, rename = "watch")]
    _watch: Vec<String>,
}
