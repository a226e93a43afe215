//! The components of the app, compiled and linked.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use wasmtime::Engine;

use crate::engine;
use crate::guest::capacity::Capacity;
use crate::guest::{Grants, Program, linker};
use crate::manifest::Component;
use crate::outbound_http::shared::Destinations;
use crate::outbound_networking::allowed_hosts::AllowedHosts;
use crate::plan::Plan;
use crate::resources::Resources;
use crate::{outbound_http, redis, variables};

/// The programs by the ids of their components.
pub(crate) type Programs = HashMap<String, Arc<Program>>;

/// The things that the components share.
pub(crate) struct Shared<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) redis: Arc<redis::shared::Connections>,
    pub(crate) destinations: Arc<Destinations>,
}

/// Compiles and links every component, all at once.
pub(crate) async fn load(plan: &Plan, engine: &Engine, shared: &Shared<'_>) -> Result<Programs> {
    let linker = Arc::new(linker(engine)?);
    let mut loading = JoinSet::new();
    for (id, component) in &plan.manifest.components {
        let grants = shared.grants(id, component).map_err(|error| {
            anyhow!(
                "{}: component.{id}.{error}",
                plan.settings.manifest.display()
            )
        })?;
        let (engine, linker) = (engine.clone(), Arc::clone(&linker));
        let capacity = Arc::clone(&shared.capacity);
        let (id, source) = (id.clone(), component.source.clone());
        loading.spawn_blocking(move || {
            let compiled = engine::compile(&engine, &source)
                .map_err(|error| anyhow!("component {id:?}: {error}"))?;
            let pre = linker.instantiate_pre(&compiled).map_err(|error| {
                let error = format!("{error:#}").replace('\n', " ");
                anyhow!("component {id:?}: {error}")
            })?;
            Ok::<_, anyhow::Error>(Arc::new(Program::new(id, grants, capacity, pre)))
        });
    }
    let mut programs = HashMap::new();
    while let Some(loaded) = loading.join_next().await {
        let program = loaded??;
        programs.insert(program.id.clone(), program);
    }
    Ok(programs)
}

impl Shared<'_> {
    /// The part of each capability that a component may use.
    fn grants(&self, id: &str, component: &Component) -> Result<Grants, String> {
        let values = &self.resources.variables;
        let hosts: Vec<_> = component
            .allowed_outbound_hosts
            .iter()
            .map(|template| (values.text(template), !template.is_literal()))
            .collect();
        let hosts = AllowedHosts::parse(hosts.iter().map(|(text, from)| (text.as_str(), *from)))
            .map_err(|error| format!("allowed_outbound_hosts: {error}"))?;
        let hosts = Arc::new(hosts);
        let own = component.variables.iter();
        let keys = self.capacity.limits.of_host.and_then(|host| host.keys);
        Ok(Grants {
            key_value: Arc::new(
                self.resources
                    .stores
                    .grant(&component.key_value_stores, keys),
            ),
            outbound_http: Arc::new(outbound_http::guest::Grant {
                component: id.to_owned(),
                hosts: Arc::clone(&hosts),
                destinations: Arc::clone(&self.destinations),
            }),
            redis: Arc::new(redis::guest::Grant {
                component: id.to_owned(),
                hosts,
                connections: Arc::clone(&self.redis),
            }),
            sqlite: Arc::new(self.resources.databases.grant(&component.sqlite_databases)),
            variables: Arc::new(variables::guest::Grant {
                component: id.to_owned(),
                values: own
                    .map(|(name, text)| (name.clone(), values.text(text)))
                    .collect(),
            }),
        })
    }
}
