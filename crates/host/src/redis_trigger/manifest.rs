//! The part of the manifest: the server of all Redis triggers, and the channel of each.

use serde::Deserialize;

use crate::manifest::typed::typed;
use crate::variables::manifest::{Declared, Template};

/// A Redis trigger.
#[derive(Debug, Clone)]
pub(crate) struct RedisTrigger {
    /// The component's id.
    pub(crate) component: String,
    /// The exact channel.
    pub(crate) channel: Template,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    channel: String,
    address: Option<toml::Value>,
}

/// Reads the server's address, such as `redis://127.0.0.1:6379`, from the table under `key`.
pub(crate) fn address(
    key: &str,
    table: toml::Table,
    variables: &Declared,
) -> Result<Template, String> {
    let settings: Settings = typed(key, table)?;
    variables
        .template(&settings.address)
        .map_err(|error| format!("{key}.address: {error}"))
}

impl RedisTrigger {
    /// Checks the trigger under `key`.
    pub(crate) fn parse(
        key: &str,
        component: String,
        table: toml::Table,
        variables: &Declared,
    ) -> Result<Self, String> {
        let config: Config = typed(key, table)?;
        if config.address.is_some() {
            return Err(format!(
                "{key}.address: this host has one server for all Redis triggers; set application.trigger.redis.address"
            ));
        }
        let channel = variables
            .template(&config.channel)
            .map_err(|error| format!("{key}.channel: {error}"))?;
        Ok(Self { component, channel })
    }
}
