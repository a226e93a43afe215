//! The settings of the host.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::guest::limits::Limits;
use crate::relay::RelayKind;
use crate::triggers::Triggers;

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The manifest.
    pub manifest: PathBuf,
    /// The public address, which is the relay's.
    pub listen: SocketAddr,
    /// The application's own address.
    pub app_listen: SocketAddr,
    /// The folder of databases and compiled code.
    pub state_dir: PathBuf,
    /// A Redis server; without one, a broker runs in this process.
    pub redis: Option<String>,
    /// The way in which the relay runs.
    pub relay: RelayKind,
    /// The relay's Wasm build.
    pub relay_wasm: PathBuf,
    /// The file of Spin's runtime configuration.
    pub runtime_config: Option<PathBuf>,
    /// The values of application variables.
    pub variables: Vec<(String, String)>,
    /// The triggers that run in this process.
    pub triggers: Triggers,
    /// The limits of instances.
    pub limits: Limits,
}
