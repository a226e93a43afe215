//! The second step of the start: everything outside of this process that the app needs.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use platform::pubsub::{REDIS_ORIGIN, REDIS_URL};
use tokio::net::TcpListener;

use crate::addresses::{Public, listen, reachable};
use crate::key_value::shared::Stores;
use crate::plan::{Plan, origin_of_redis};
use crate::redis::broker::Broker;
use crate::relay::RelayKind;
use crate::sqlite::shared::Databases;
use crate::triggers::Trigger;
use crate::variables::shared::Variables;
use crate::{redis, state};

/// The resources that are open before a component runs.
pub(crate) struct Resources {
    /// The socket of the application; `None` if another process serves it.
    pub(crate) app: Option<TcpListener>,
    /// The address of the application.
    pub(crate) app_address: SocketAddr,
    /// The socket of the relay.
    pub(crate) public: Public,
    /// The broker in this process; `None` with a Redis server.
    pub(crate) broker: Option<Broker>,
    /// The Redis server or the broker.
    pub(crate) redis_url: String,
    /// The variables' final values.
    pub(crate) variables: Variables,
    pub(crate) databases: Databases,
    pub(crate) stores: Stores,
}

impl Resources {
    /// Opens addresses, the state folder, Redis and the databases. The addresses come first, because a port that is
    /// taken is the likeliest mistake.
    pub(crate) async fn open(plan: &Plan) -> Result<Self> {
        let settings = &plan.settings;
        let (app, app_address, public) = if settings.triggers.has(Trigger::Http) {
            let app = listen(settings.app_listen).await?;
            let address = app.local_addr()?;
            let public = Public::open(settings.relay, settings.listen).await?;
            (Some(app), address, public)
        } else {
            (None, settings.app_listen, Public::None)
        };
        let public_address = match (&public, settings.relay) {
            (Public::None, RelayKind::None) => app_address,
            (Public::None, _) => settings.listen,
            _ => public.address()?.unwrap_or(app_address),
        };
        let state = &settings.state_dir;
        state::open(state).with_context(|| format!("state folder {}", state.display()))?;

        let (broker, redis_url) = match &plan.redis {
            Some(url) => {
                redis::shared::check(url).await?;
                (None, url.clone())
            }
            None => {
                let broker = Broker::open().await;
                let broker = broker.context("the broker could not start")?;
                let url = broker.url();
                (Some(broker), url)
            }
        };
        let mut variables = plan.variables.clone();
        variables.set(REDIS_URL.name(), redis_url.clone());
        variables.set(REDIS_ORIGIN.name(), origin_of_redis(&redis_url));
        for (name, address) in [("public_url", public_address), ("app_url", app_address)] {
            if variables.given(name).is_none() {
                variables.set(name, format!("http://{}", reachable(address)));
            }
        }

        let components = || plan.manifest.components.values();
        let databases = components().flat_map(|component| &component.sqlite_databases);
        let stores = components().flat_map(|component| &component.key_value_stores);
        Ok(Self {
            app,
            app_address,
            public,
            broker,
            redis_url,
            variables,
            databases: Databases::open(state, databases, &plan.libsql)?,
            stores: Stores::open(state, stores)?,
        })
    }
}
