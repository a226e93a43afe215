//! The triggers that run in this process.
//!
//! `spin up` runs each kind of trigger as a process of its own, and so can this host: several processes share a state
//! folder and a Redis server, and each runs only the components of its own triggers.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use platform::pubsub::REDIS_URL;

use crate::manifest::Manifest;
use crate::settings::Settings;
use crate::variables::shared::Variables;

/// A kind of trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Trigger {
    /// The HTTP server, with the relay in front of it.
    Http,
    /// The Redis trigger.
    Redis,
    /// The cron trigger.
    Cron,
}

/// The triggers of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers(BTreeSet<Trigger>);

impl Default for Triggers {
    fn default() -> Self {
        [Trigger::Http, Trigger::Redis, Trigger::Cron]
            .into_iter()
            .collect()
    }
}

impl FromIterator<Trigger> for Triggers {
    fn from_iter<I: IntoIterator<Item = Trigger>>(triggers: I) -> Self {
        Self(triggers.into_iter().collect())
    }
}

impl std::fmt::Display for Triggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.iter().map(|trigger| match trigger {
            Trigger::Http => "http",
            Trigger::Redis => "redis",
            Trigger::Cron => "cron",
        });
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl Triggers {
    /// Returns whether this kind of trigger runs here.
    pub(crate) fn has(&self, trigger: Trigger) -> bool {
        self.0.contains(&trigger)
    }

    /// Returns whether every kind of trigger runs here.
    pub(crate) fn are_all(&self) -> bool {
        *self == Self::default()
    }

    /// Removes from the manifest what other processes run.
    pub(crate) fn restrict(&self, manifest: &mut Manifest) {
        if self.are_all() {
            return;
        }
        if !self.has(Trigger::Http) {
            manifest.http.clear();
        }
        if !self.has(Trigger::Redis) {
            manifest.redis.clear();
        }
        if !self.has(Trigger::Cron) {
            manifest.cron.clear();
        }
        let http = manifest.http.iter().map(|trigger| &trigger.component);
        let redis = manifest.redis.iter().map(|trigger| &trigger.component);
        let cron = manifest.cron.iter().map(|trigger| &trigger.component);
        let called: BTreeSet<String> = http.chain(redis).chain(cron).cloned().collect();
        manifest.components.retain(|id, _| called.contains(id));
    }

    /// Checks that this process can find the others, because a value that one process generates at its start is not
    /// known to another.
    pub(crate) fn check(
        &self,
        settings: &Settings,
        variables: &Variables,
        redis: Option<&str>,
    ) -> Result<()> {
        if self.has(Trigger::Http) {
            return Ok(());
        }
        if self.has(Trigger::Redis) && redis.is_none() {
            bail!(
                "the Redis trigger runs without the HTTP trigger here, so both need one Redis server: set --redis or \
                 `{REDIS_URL}`"
            );
        }
        if self.has(Trigger::Cron) {
            if variables.given("app_url").is_none() && settings.app_listen.port() == 0 {
                bail!(
                    "the cron trigger runs without the HTTP trigger here: set `app_url`, or give both processes the same \
                     --app-listen"
                );
            }
            if variables.get("internal_token").is_empty() {
                bail!(
                    "the cron trigger runs without the HTTP trigger here: set `internal_token` for both processes"
                );
            }
        }
        Ok(())
    }
}
