//! The host: everything that runs for one manifest, from start to stop.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::allowed_hosts::AllowedHosts;
use crate::broker::Broker;
use crate::database::Database;
use crate::guest::{Grants, Program, linker};
use crate::http::{App, Handler};
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::networks::BlockedNetworks;
use crate::outbound_http::{Network, network};
use crate::relay::{Kind, Relay};
use crate::routes::Router;
use crate::variables::{Given, Variables};
use crate::{cron_trigger, engine, files, key_value, redis, redis_trigger, sqlite, state};

/// What to run and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The manifest.
    pub manifest: PathBuf,
    /// The public address: the relay's.
    pub listen: SocketAddr,
    /// The application's own address.
    pub app_listen: SocketAddr,
    /// The folder of databases and compiled code.
    pub state_dir: PathBuf,
    /// A Redis server; without one a broker runs in this process.
    pub redis: Option<String>,
    /// How the relay runs.
    pub relay: Kind,
    /// The relay's Wasm build.
    pub relay_wasm: PathBuf,
    /// Spin's runtime configuration.
    pub runtime_config: Option<PathBuf>,
    /// Values of application variables.
    pub variables: Vec<(String, String)>,
    /// What instances may use.
    pub limits: Limits,
}

/// What all components share.
pub struct Shared {
    /// The limits of instances.
    pub limits: Limits,
    /// One permit for each instance that may run.
    pub slots: Arc<Semaphore>,
    /// The file of all key-value stores, if a component has one.
    pub key_value: Option<Arc<Database>>,
    /// Connections to Redis.
    pub redis: redis::Connections,
    /// The client of outbound HTTP.
    pub network: Network,
    /// The client for what a component's `allowed_outbound_hosts` names: networks that are blocked by
    /// default only are open to it, for who wrote the name there meant that host.
    pub network_of_named: Network,
    /// The application's own address.
    pub address: SocketAddr,
    /// The application, for calls from its components to it and to each other.
    pub app: OnceLock<Weak<App>>,
}

/// How long instances get to finish at a stop.
const FINISH: Duration = Duration::from_secs(30);
/// How long the Redis server may take to answer at the start.
const REDIS: Duration = Duration::from_secs(5);

/// A running application, with its relay.
pub struct Host {
    address: SocketAddr,
    app_address: SocketAddr,
    lines: Vec<(&'static str, String)>,
    relay: Option<Relay>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
    databases: Vec<Arc<Database>>,
    _app: Arc<App>,
    _broker: Option<Broker>,
}

impl Host {
    /// Starts everything; when this returns, requests are served.
    pub async fn start(settings: Settings) -> Result<Self> {
        let manifest = Manifest::read(&settings.manifest)?;
        let file = settings.manifest.display();
        let given = Given::collect(&settings.variables, std::env::vars(), &manifest.folder);
        let mut variables =
            Variables::resolve(&manifest, &given).map_err(|e| anyhow!("{file}: {e}"))?;
        let development = variables
            .get("environment")
            .is_some_and(|environment| environment == "development");

        // The addresses first, for a taken port is the likeliest mistake.
        let app_listener = bind(settings.app_listen).await?;
        let app_address = app_listener.local_addr()?;
        let public = Public::open(settings.relay, settings.listen).await?;
        let public_address = public.address()?.unwrap_or(app_address);
        state::open(&settings.state_dir)
            .with_context(|| format!("state folder {}", settings.state_dir.display()))?;

        let given_redis = settings
            .redis
            .clone()
            .or_else(|| given.get("redis_url").map(str::to_owned));
        let broker = match &given_redis {
            Some(url) => {
                check_redis(url).await?;
                None
            }
            None => Some(
                Broker::start()
                    .await
                    .context("the broker could not start")?,
            ),
        };
        let redis_url = given_redis
            .or_else(|| broker.as_ref().map(Broker::url))
            .unwrap_or_default();
        variables.set("redis_url", redis_url.clone());
        for (name, address) in [("public_url", public_address), ("app_url", app_address)] {
            if given.get(name).is_none() {
                variables.set(name, format!("http://{address}"));
            }
        }
        if development && variables.get("internal_token").is_none_or(str::is_empty) {
            variables.set("internal_token", format!("{:032x}", rand::random::<u128>()));
        }

        let from_config = match &settings.runtime_config {
            Some(path) => BlockedNetworks::from_runtime_config(path)
                .map_err(|e| anyhow!("{}: {e}", path.display()))?,
            None => None,
        };
        // A runtime configuration counts for everything, as on Spin.
        let (blocked, blocked_for_named) = match from_config {
            Some(blocked) => (blocked.clone(), blocked),
            None if development => Default::default(),
            None => (BlockedNetworks::private(), BlockedNetworks::default()),
        };

        let mut databases = BTreeMap::new();
        for name in manifest
            .components
            .values()
            .flat_map(|c| &c.sqlite_databases)
        {
            if !databases.contains_key(name) {
                let path = sqlite::file(&settings.state_dir, name);
                let database = Database::open(&path).with_context(|| path.display().to_string())?;
                databases.insert(name.clone(), database);
            }
        }
        let has_stores = manifest
            .components
            .values()
            .any(|c| !c.key_value_stores.is_empty());
        let key_value = match has_stores {
            true => Some(
                key_value::open(&settings.state_dir)
                    .with_context(|| key_value::file(&settings.state_dir).display().to_string())?,
            ),
            false => None,
        };
        let shared = Arc::new(Shared {
            limits: settings.limits,
            slots: Arc::new(Semaphore::new(settings.limits.instances as usize)),
            key_value: key_value.clone(),
            redis: redis::Connections::new(blocked.clone(), Some(redis_url.clone())),
            network: network(blocked),
            network_of_named: network(blocked_for_named),
            address: app_address,
            app: OnceLock::new(),
        });

        let programs = load(&settings, &manifest, &variables, &databases, &shared).await?;
        let mut handlers = HashMap::new();
        for trigger in &manifest.http {
            let program = Arc::clone(&programs[&trigger.component]);
            let proxy = program.http().map_err(|e| {
                anyhow!(
                    "component {:?} has an HTTP trigger but {e:#}",
                    trigger.component
                )
            })?;
            handlers.insert(trigger.component.clone(), Handler { program, proxy });
        }
        let router = Router::build(&manifest.http).map_err(|e| anyhow!("{file}: {e}"))?;
        let app = Arc::new(App::new(router, handlers));
        shared.app.get_or_init(|| Arc::downgrade(&app));

        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&app).serve(app_listener, stopped.clone()));
        start_triggers(&manifest, &variables, &programs, &stopped, &mut tasks)?;

        let internal_token = variables
            .get("internal_token")
            .unwrap_or_default()
            .to_owned();
        let relay_settings = crate::relay::Settings {
            app: format!("http://{app_address}"),
            redis: redis_url.clone(),
            internal_token,
            wasm: settings.relay_wasm.clone(),
            cache: settings.state_dir.join("cache"),
        };
        let relay = match public {
            Public::Listens(listener) => Relay::start_native(listener, &relay_settings).map(Some),
            Public::Reserved(_reserved) => Relay::start_wasm(public_address, relay_settings)
                .await
                .map(Some),
            Public::None => Ok(None),
        };
        let relay = match relay {
            Ok(relay) => relay,
            Err(error) => {
                // Before the broker goes, or the triggers would have words about that.
                tasks.shutdown().await;
                return Err(error);
            }
        };

        let lines = vec![
            ("app", format!("http://{app_address}")),
            ("state", settings.state_dir.display().to_string()),
            ("auth", auth(development, &variables)),
            (
                "broker",
                if broker.is_some() {
                    "in-process".to_owned()
                } else {
                    format!("redis {}", without_password(&redis_url))
                },
            ),
            ("relay", settings.relay.to_string()),
        ];
        Ok(Self {
            address: relay.as_ref().map_or(app_address, Relay::address),
            app_address,
            lines,
            relay,
            stop,
            tasks,
            shared,
            databases: databases.into_values().chain(key_value).collect(),
            _app: app,
            _broker: broker,
        })
    }

    /// The public address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The application's own address.
    pub fn app_address(&self) -> SocketAddr {
        self.app_address
    }

    /// What to tell whoever started it: a word and its value, a line each.
    pub fn lines(&self) -> &[(&'static str, String)] {
        &self.lines
    }

    /// Resolves, with the reason, when a part that should run for ever has ended.
    pub async fn failed(&mut self) -> anyhow::Error {
        match &mut self.relay {
            Some(relay) => match relay.ended().await {
                Ok(()) => anyhow!("the relay ended"),
                Err(error) => error,
            },
            None => std::future::pending().await,
        }
    }

    /// Resolves when no instance runs. It takes no permit, for an instance that finishes its work may
    /// need another one.
    async fn finished(&self) {
        while self.shared.slots.available_permits() < self.shared.limits.instances as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Drains the relay, lets requests and instances finish, and closes the databases.
    pub async fn stop(mut self) -> Result<()> {
        let drained = match self.relay.take() {
            Some(relay) => relay.drain().await,
            None => Ok(()),
        };
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a part of the host had failed")?;
        }
        if tokio::time::timeout(FINISH, self.finished()).await.is_err() {
            tracing::warn!("instances still ran after {FINISH:?} and were stopped");
        }
        let databases = std::mem::take(&mut self.databases);
        tokio::task::spawn_blocking(move || databases.iter().for_each(|database| database.close()))
            .await?;
        drained
    }
}

/// The relay's public address, taken before anything else starts.
enum Public {
    /// Its listening socket, for a relay in this process.
    Listens(TcpListener),
    /// A socket that keeps the port until a relay that listens by itself has taken it over: without it, the
    /// system may give the port to any connection that is made while the components are compiled.
    Reserved(TcpSocket),
    /// No relay runs.
    None,
}

impl Public {
    async fn open(relay: Kind, address: SocketAddr) -> Result<Self> {
        match relay {
            Kind::Native => Ok(Self::Listens(bind(address).await?)),
            Kind::Wasm => reserve(address)
                .map(Self::Reserved)
                .map_err(|error| cannot_listen(address, &error)),
            Kind::None => Ok(Self::None),
        }
    }

    fn address(&self) -> Result<Option<SocketAddr>> {
        Ok(match self {
            Self::Listens(listener) => Some(listener.local_addr()?),
            Self::Reserved(socket) => Some(socket.local_addr()?),
            Self::None => None,
        })
    }
}

/// Takes a port without listening. Another socket may listen there only if it allows the address's reuse, as
/// servers do and the system's own choice of a port does not.
fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!("{address} is taken: another program listens there")
        }
        _ => anyhow!("cannot listen on {address}: {error}"),
    }
}

async fn check_redis(url: &str) -> Result<()> {
    let shown = without_password(url);
    let client = ::redis::Client::open(url).map_err(|error| anyhow!("redis {shown}: {error}"))?;
    let ping = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        ::redis::cmd("PING")
            .query_async::<()>(&mut connection)
            .await
    };
    match tokio::time::timeout(REDIS, ping).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => bail!("redis {shown} cannot be reached: {error}"),
        Err(_) => bail!("redis {shown} cannot be reached: no answer in {REDIS:?}"),
    }
}

/// A URL fit for a log.
fn without_password(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut url) if url.password().is_some() => {
            let shown = url.set_password(Some("***"));
            if shown.is_ok() {
                url.to_string()
            } else {
                "redis".to_owned()
            }
        }
        _ => url.to_owned(),
    }
}

fn auth(development: bool, variables: &Variables) -> String {
    // An address that there can never be (RFC 2606) is none.
    let origin = variables.get("better_auth_origin").unwrap_or_default();
    match Some(origin)
        .filter(|origin| !origin.ends_with(".invalid"))
        .unwrap_or_default()
    {
        "" if development => "development: everybody is user dev".to_owned(),
        "" => "production: no auth origin, the application refuses to serve".to_owned(),
        origin => format!("better auth at {origin}"),
    }
}

/// Compiles and links every component, all at once.
async fn load(
    settings: &Settings,
    manifest: &Manifest,
    variables: &Variables,
    databases: &BTreeMap<String, Arc<Database>>,
    shared: &Arc<Shared>,
) -> Result<HashMap<String, Arc<Program>>> {
    let engine = engine::start(&settings.state_dir.join("cache"), &settings.limits)?;
    let linker = Arc::new(linker(&engine)?);
    let staging = settings.state_dir.join("files");
    let mut loading = JoinSet::new();
    for (id, component) in &manifest.components {
        let here = |what: String| anyhow!("{}: component.{id}.{what}", settings.manifest.display());
        let hosts: Vec<_> = component
            .allowed_outbound_hosts
            .iter()
            .map(|template| (variables.text(template), !template.is_literal()))
            .collect();
        let hosts = AllowedHosts::parse(hosts.iter().map(|(text, from)| (text.as_str(), *from)))
            .map_err(|e| here(format!("allowed_outbound_hosts: {e}")))?;
        let values = component.variables.iter();
        let grants = Grants {
            variables: Arc::new(
                values
                    .map(|(name, text)| (name.clone(), variables.text(text)))
                    .collect(),
            ),
            environment: component.environment.clone(),
            folders: files::mounts(id, component, &manifest.folder, &staging).map_err(here)?,
            hosts,
            databases: component
                .sqlite_databases
                .iter()
                .filter_map(|name| Some((name.clone(), Arc::clone(databases.get(name)?))))
                .collect(),
            stores: component.key_value_stores.clone(),
        };
        let (engine, linker, shared) = (engine.clone(), Arc::clone(&linker), Arc::clone(shared));
        let (id, source) = (id.clone(), component.source.clone());
        loading.spawn_blocking(move || {
            let compiled =
                engine::compile(&engine, &source).map_err(|e| anyhow!("component {id:?}: {e}"))?;
            let pre = linker.instantiate_pre(&compiled).map_err(|e| {
                anyhow!("component {id:?}: {}", format!("{e:#}").replace('\n', " "))
            })?;
            Ok::<_, anyhow::Error>(Arc::new(Program::new(id, grants, shared, pre)))
        });
    }
    let mut programs = HashMap::new();
    while let Some(loaded) = loading.join_next().await {
        let program = loaded??;
        programs.insert(program.id.clone(), program);
    }
    Ok(programs)
}

fn start_triggers(
    manifest: &Manifest,
    variables: &Variables,
    programs: &HashMap<String, Arc<Program>>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let mut servers: BTreeMap<String, redis_trigger::Channels> = BTreeMap::new();
    for trigger in &manifest.redis {
        let program = Arc::clone(&programs[&trigger.component]);
        let call = program.redis().map_err(|e| {
            anyhow!(
                "component {:?} has a Redis trigger but {e:#}",
                trigger.component
            )
        })?;
        servers
            .entry(variables.text(&trigger.address))
            .or_default()
            .entry(variables.text(&trigger.channel))
            .or_default()
            .push(redis_trigger::Handler { program, call });
    }
    for (address, channels) in servers {
        tasks.spawn(redis_trigger::run(address, channels, stopped.clone()));
    }
    for trigger in &manifest.cron {
        let program = Arc::clone(&programs[&trigger.component]);
        let handler = program.cron().map_err(|e| {
            anyhow!(
                "component {:?} has a cron trigger but {e:#}",
                trigger.component
            )
        })?;
        tasks.spawn(cron_trigger::run(
            program,
            handler,
            trigger.schedule.clone(),
            stopped.clone(),
        ));
    }
    Ok(())
}
