//! The third step of the start: the app and its relay, running.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use wasmtime::Engine;

use crate::addresses::{Public, reachable};
use crate::guest::capacity::Capacity;
use crate::http_trigger::internal_token::InternalTokens;
use crate::http_trigger::shared::App;
use crate::manifest::Manifest;
use crate::outbound_http::shared::Destinations;
use crate::parts::Parts;
use crate::plan::Plan;
use crate::programs::{Programs, Shared};
use crate::redis::shared::{Connections, without_password};
use crate::redis_trigger::shared::AtLoss;
use crate::relay::{Relay, RelaySettings};
use crate::resources::Resources;
use crate::sqlite::database::Database;
use crate::triggers::Trigger;
use crate::variables::shared::Variables;
use crate::{cron_trigger, engine, http_trigger, programs, redis_trigger};

/// The time that instances get to finish at a stop.
const FINISH: Duration = Duration::from_secs(30);

/// A running application, with its relay.
pub struct Running {
    address: Option<SocketAddr>,
    app_address: SocketAddr,
    lines: Vec<(&'static str, String)>,
    relay: Option<Relay>,
    /// The HTTP server and the triggers, which end at a stop.
    serving: Parts,
    /// The broker and threads, which instances need until their end.
    supporting: Parts,
    capacity: Arc<Capacity>,
    databases: Vec<Arc<Database>>,
    /// The engine, whose clock runs while the engine is in use. A process with one trigger uses it until that trigger
    /// ends, and then the host must report the end of the trigger, not that of the clock.
    _engine: Engine,
    /// The application, which its components call by a weak reference.
    _app: Arc<App>,
}

impl Running {
    /// Starts everything; when this returns, requests are served.
    pub(crate) async fn start(plan: Plan, mut resources: Resources) -> Result<Self> {
        let mut supporting = Parts::new();
        let lines = lines(&plan, &resources);
        if let Some(broker) = resources.broker.take() {
            supporting.watch("the broker", broker.serve());
        }
        let databases = databases(&resources, &mut supporting);
        let capacity = Arc::new(Capacity::new(plan.settings.limits)?);
        let app_address = resources.app_address;
        let destinations = Destinations::new(
            plan.blocked.clone(),
            app_address,
            plan.settings
                .limits
                .of_host
                .and_then(|host| host.outbound_an_hour),
        );
        let redis = Connections::new(
            plan.blocked.by_wildcard.clone(),
            resources.redis_url.clone(),
        );
        let shared = Shared {
            resources: &resources,
            capacity: Arc::clone(&capacity),
            redis: Arc::new(redis),
            destinations: Arc::new(destinations),
        };
        let cache = plan.settings.state_dir.join("cache");
        let (engine, clock) = engine::start(&cache, &plan.settings.limits)?;
        supporting.watch("the clock of running guests", async { drop(clock.await) });
        let programs = programs::load(&plan, &engine, &shared).await?;
        let tokens = InternalTokens::of(&resources.variables);
        let app = app(&plan.manifest, &programs, tokens)?;
        let app = Arc::new(app.within(plan.settings.limits.of_host));
        let weak = Arc::downgrade(&app);
        shared.destinations.set_application(weak);

        let Resources {
            app: listener,
            public,
            redis_url,
            variables,
            ..
        } = resources;
        let mut serving = Parts::new();
        let stopped = serving.stopped();
        let serves = listener.is_some();
        if let Some(listener) = listener {
            serving.spawn("the HTTP server", Arc::clone(&app).serve(listener, stopped));
        }
        start_triggers(&plan, &variables, &programs, &mut serving)?;
        let relay = match start_relay(&plan, public, app_address, redis_url, &variables).await {
            Ok(relay) => relay,
            Err(error) => {
                // The triggers end before the broker, because a trigger that loses the broker logs a warning.
                serving.abort().await;
                return Err(error);
            }
        };
        Ok(Self {
            address: serves.then(|| relay.as_ref().map_or(app_address, Relay::address)),
            app_address,
            lines,
            relay,
            serving,
            supporting,
            capacity,
            databases,
            _engine: engine,
            _app: app,
        })
    }

    /// The public address; `None` if the HTTP trigger does not run in this process.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The application's own address.
    pub fn app_address(&self) -> SocketAddr {
        self.app_address
    }

    /// The lines that the operator gets at the start, as words with their values.
    pub fn lines(&self) -> &[(&'static str, String)] {
        &self.lines
    }

    /// Resolves, with the reason, once a part has ended that should run until [`Running::stop`].
    pub async fn failed(&mut self) -> anyhow::Error {
        let relay = async {
            match &mut self.relay {
                Some(relay) => match relay.ended().await {
                    Ok(()) => anyhow!("the relay ended"),
                    Err(error) => error,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = relay => error,
            error = self.serving.failed() => error,
            error = self.supporting.failed() => error,
        }
    }

    /// Drains the relay, lets requests and instances finish, and closes the databases.
    ///
    /// # Errors
    /// If the relay or another part fails meanwhile; the databases are closed all the same.
    pub async fn stop(mut self) -> Result<()> {
        let drained = match self.relay.take() {
            Some(relay) => relay.drain().await,
            None => Ok(()),
        };
        let served = self.serving.stop().await;
        let idle = tokio::time::timeout(FINISH, self.capacity.idle());
        if idle.await.is_err() {
            tracing::warn!("instances still ran after {FINISH:?} and were stopped");
        }
        let databases = std::mem::take(&mut self.databases);
        tokio::task::spawn_blocking(move || databases.iter().for_each(|database| database.close()))
            .await?;
        drained.and(served)
    }
}

/// The databases in files. The threads that write their checkpoints are among the `supporting` parts.
fn databases(resources: &Resources, supporting: &mut Parts) -> Vec<Arc<Database>> {
    let databases = resources
        .databases
        .files()
        .chain(resources.stores.database());
    let databases: Vec<_> = databases.cloned().collect();
    for database in &databases {
        let name = format!("the checkpoint thread of {}", database.path().display());
        supporting.watch(name, database.checkpoints_ended());
    }
    databases
}

/// The HTTP server of the components with HTTP triggers.
fn app(manifest: &Manifest, programs: &Programs, tokens: InternalTokens) -> Result<App> {
    let mut handlers = HashMap::new();
    for trigger in &manifest.http {
        let program = Arc::clone(&programs[&trigger.component]);
        let handler = http_trigger::guest::Handler::new(program)?;
        handlers.insert(trigger.component.clone(), handler);
    }
    App::new(&manifest.http, handlers, tokens).map_err(|error| anyhow!(error))
}

fn start_triggers(
    plan: &Plan,
    variables: &Variables,
    programs: &Programs,
    serving: &mut Parts,
) -> Result<()> {
    let manifest = &plan.manifest;
    let mut channels = redis_trigger::shared::Channels::new();
    for trigger in &manifest.redis {
        let program = Arc::clone(&programs[&trigger.component]);
        channels
            .entry(variables.text(&trigger.channel))
            .or_default()
            .push(redis_trigger::guest::Handler::new(program)?);
    }
    if let Some(address) = &manifest.redis_address
        && !channels.is_empty()
    {
        let address = variables.text(address);
        let stopped = serving.stopped();
        let at_loss = if plan.settings.triggers.has(Trigger::Http) {
            AtLoss::ConnectAgain
        } else {
            AtLoss::End
        };
        let trigger = redis_trigger::shared::run(address, channels, at_loss, stopped);
        serving.spawn("the Redis trigger", trigger);
    }
    for trigger in &manifest.cron {
        let program = Arc::clone(&programs[&trigger.component]);
        let handler = cron_trigger::guest::Handler::new(program)?;
        let call = move |timestamp| {
            let handler = handler.clone();
            async move { handler.run(timestamp).await }
        };
        let stopped = serving.stopped();
        serving.spawn(
            format!("the cron trigger of {:?}", trigger.component),
            cron_trigger::shared::run(call, trigger.schedule.clone(), stopped),
        );
    }
    Ok(())
}

async fn start_relay(
    plan: &Plan,
    public: Public,
    app: SocketAddr,
    redis: String,
    variables: &Variables,
) -> Result<Option<Relay>> {
    let settings = RelaySettings {
        app: format!("http://{}", reachable(app)),
        redis,
        internal_token: variables.get("internal_token").to_owned(),
        wasm: plan.settings.relay_wasm.clone(),
        cache: plan.settings.state_dir.join("cache"),
    };
    match public {
        Public::Listens(listener) => Relay::start_native(listener, &settings).map(Some),
        // The port stays reserved until the relay listens.
        Public::Reserved(reserved) => {
            let address = reserved.local_addr()?;
            Relay::start_wasm(address, settings).await.map(Some)
        }
        Public::None => Ok(None),
    }
}

/// Lists the lines that the operator gets at the start.
fn lines(plan: &Plan, resources: &Resources) -> Vec<(&'static str, String)> {
    let broker = match &resources.broker {
        Some(_) => "in-process".to_owned(),
        None => format!("redis {}", without_password(&resources.redis_url)),
    };
    // A host under `.invalid` never exists (RFC 2606), so it stands for none.
    let auth = match resources.variables.get("better_auth_origin") {
        origin if !origin.is_empty() && !origin.ends_with(".invalid") => {
            format!("better auth at {origin}")
        }
        _ if plan.development => "development: every caller is user dev".to_owned(),
        _ => "production: no auth origin, the application refuses to serve".to_owned(),
    };
    let state = plan.settings.state_dir.display().to_string();
    let triggers = &plan.settings.triggers;
    let mut lines = Vec::new();
    if !triggers.are_all() {
        lines.push(("runs", triggers.to_string()));
    }
    if triggers.has(Trigger::Http) {
        let app = format!("http://{}", reachable(resources.app_address));
        lines.push(("app", app));
    }
    lines.extend([("state", state), ("auth", auth), ("broker", broker)]);
    if triggers.has(Trigger::Http) {
        lines.push(("relay", plan.settings.relay.to_string()));
    }
    lines
}
