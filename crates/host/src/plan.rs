//! The first step of the start: reads what is to run, without any side effect.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use platform::pubsub::{REDIS_ORIGIN, REDIS_URL};
use platform::setting::Declaration;
use quota::INSTANCE_MEMORY_MIB;
use url::Url;

use crate::environment;
use crate::manifest::Manifest;
use crate::outbound_networking::blocked_networks::Blocked;
use crate::redis::PORT;
use crate::runtime_config::{Libsql, RuntimeConfig};
use crate::settings::Settings;
use crate::triggers::Trigger;
use crate::variables::shared::{Given, Variables};

/// The plan of a run, read from the settings, the manifest and the environment.
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) manifest: Manifest,
    /// The variables' values, without those that depend on a resource which is not open yet.
    pub(crate) variables: Variables,
    /// Says whether the variable `environment` is `development`.
    pub(crate) development: bool,
    /// The Redis server; without one, a broker runs in this process.
    pub(crate) redis: Option<String>,
    /// The networks that components may not reach.
    pub(crate) blocked: Blocked,
    /// The databases that are on libSQL servers, by name.
    pub(crate) libsql: BTreeMap<String, Libsql>,
}

impl Plan {
    /// Reads everything that the operator wrote.
    pub(crate) fn read(settings: Settings) -> Result<Self> {
        let mut manifest = Manifest::read(&settings.manifest)?;
        settings.triggers.restrict(&mut manifest);
        let environment = environment::variables();
        let given = Given::collect(&settings.variables, environment, &manifest.folder)
            .map_err(|error| anyhow!(error))?;
        for name in given.unknown(&manifest.variables) {
            tracing::warn!("{name} has no effect: the manifest has no such variable");
        }
        let mut variables = Variables::resolve(&manifest.variables, &given)
            .map_err(|error| anyhow!("{}: {error}", settings.manifest.display()))?;
        check(&variables)?;
        let development = variables.get("environment") == "development";
        if development
            && variables.get("internal_token").is_empty()
            && settings.triggers.has(Trigger::Http)
        {
            variables.set("internal_token", format!("{:032x}", rand::random::<u128>()));
        }
        let memory = INSTANCE_MEMORY_MIB.name();
        if variables.given(memory).is_none() {
            variables.set(memory, (settings.limits.memory >> 20).to_string());
        }
        let config = match &settings.runtime_config {
            Some(path) => {
                RuntimeConfig::read(path).map_err(|error| anyhow!("{}: {error}", path.display()))?
            }
            None => RuntimeConfig::default(),
        };
        let given_redis = variables.given(REDIS_URL.name());
        let given_redis = given_redis.filter(|url| !url.is_empty());
        let redis = settings.redis.as_deref().or(given_redis).map(str::to_owned);
        check_redis(&variables, redis.as_deref())?;
        let triggers = &settings.triggers;
        triggers.check(&settings, &variables, redis.as_deref())?;
        Ok(Self {
            redis,
            blocked: match settings.limits.of_host {
                // The other host blocks no networks.
                Some(_) => Blocked::default(),
                None => Blocked::new(config.blocked, development),
            },
            libsql: config.databases,
            settings,
            manifest,
            variables,
            development,
        })
    }
}

/// Returns every setting of the app, in the order of the documentation.
pub fn declarations() -> impl Iterator<Item = &'static Declaration> {
    platform::settings()
        .chain(auth::settings())
        .chain(quota::settings())
        .chain(tasks::settings())
}

/// Checks the settings that the operator gave, so that a mistake shows before anything runs.
fn check(variables: &Variables) -> Result<()> {
    for declaration in declarations() {
        let given = variables.given(declaration.setting.name());
        declaration.check(given.unwrap_or_default())?;
    }
    tasks::check_settings(variables)?;
    Ok(())
}

/// Checks that the operator allows the app the Redis server that it uses. The error leaves out the value of the
/// setting, because it may be secret.
fn check_redis(variables: &Variables, redis: Option<&str>) -> Result<()> {
    let given = variables.given(REDIS_ORIGIN.name()).unwrap_or_default();
    let (false, Some(redis)) = (given.is_empty(), redis) else {
        return Ok(());
    };
    if origin_of_redis(redis) != origin_of_redis(given) {
        bail!("`{REDIS_ORIGIN}` is not the scheme, host and port of `{REDIS_URL}`");
    }
    Ok(())
}

/// The scheme, host and port of a Redis server; the address itself if it is not a URL.
pub(crate) fn origin_of_redis(redis: &str) -> String {
    let Ok(url) = Url::parse(redis) else {
        return redis.to_owned();
    };
    let port = url.port().unwrap_or(PORT);
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}:{port}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_redis_server_has_no_password_and_no_path() {
        for (redis, origin) in [
            ("redis://127.0.0.1:1", "redis://127.0.0.1:1"),
            ("redis://me:p%40w@h.example:1/0", "redis://h.example:1"),
            ("rediss://:pw@h.example/", "rediss://h.example:6379"),
            ("redis://[::1]", "redis://[::1]:6379"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(origin_of_redis(redis), origin, "{redis}");
        }
    }
}
