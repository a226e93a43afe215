//! The first step of the start: what is to run, without any side effect.

use anyhow::{Result, anyhow};

use crate::manifest::Manifest;
use crate::outbound_networking::blocked_networks::{Blocked, BlockedNetworks};
use crate::settings::Settings;
use crate::variables::shared::{Given, Variables};

/// What is to run, read from the settings, the manifest and the environment.
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) manifest: Manifest,
    /// The variables' values, as far as they depend on nothing that is still to be opened.
    pub(crate) variables: Variables,
    /// Whether the variable `environment` says `development`.
    pub(crate) development: bool,
    /// The Redis server; without one, a broker runs in this process.
    pub(crate) redis: Option<String>,
    /// The networks that components may not reach.
    pub(crate) blocked: Blocked,
}

impl Plan {
    /// Reads everything that the operator wrote.
    pub(crate) fn read(settings: Settings) -> Result<Self> {
        let manifest = Manifest::read(&settings.manifest)?;
        let given = Given::collect(&settings.variables, std::env::vars(), &manifest.folder)
            .map_err(|error| anyhow!(error))?;
        let mut variables = Variables::resolve(&manifest.variables, &given)
            .map_err(|error| anyhow!("{}: {error}", settings.manifest.display()))?;
        check(&variables)?;
        let development = variables.get("environment") == "development";
        if development && variables.get("internal_token").is_empty() {
            variables.set("internal_token", format!("{:032x}", rand::random::<u128>()));
        }
        let from_config = match &settings.runtime_config {
            Some(path) => BlockedNetworks::from_runtime_config(path)
                .map_err(|error| anyhow!("{}: {error}", path.display()))?,
            None => None,
        };
        let given_redis = || variables.given("redis_url").map(str::to_owned);
        Ok(Self {
            redis: settings.redis.clone().or_else(given_redis),
            blocked: Blocked::new(from_config, development),
            settings,
            manifest,
            variables,
            development,
        })
    }
}

/// Checks the settings that the operator gave, so that a mistake shows before anything runs.
fn check(variables: &Variables) -> Result<()> {
    let declarations = platform::settings()
        .chain(auth::settings())
        .chain(tasks::settings());
    for declaration in declarations {
        let given = variables.given(declaration.setting.name());
        declaration.check(given.unwrap_or_default())?;
    }
    tasks::check_settings(variables)?;
    Ok(())
}
