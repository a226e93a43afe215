//! The hosts that run the app, and what each of them allows.

use clap::ValueEnum;

/// A host, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum HostName {
    /// `cargo xtask up`, and `spin up` with the cron plugin and a Redis
    Local,
    /// `spin up` without plugins and without a Redis trigger
    HttpOnly,
    /// SpinKube: Spin on Kubernetes
    Spinkube,
    /// Fermyon Cloud
    FermyonCloud,
    /// Akamai Functions
    Akamai,
}

/// The things that a host allows an app, as far as they concern this app.
#[derive(Debug)]
pub(crate) struct Host {
    /// The name of the host in a sentence.
    pub(crate) name: &'static str,
    /// The kinds of triggers that it has. It refuses an app with any other.
    pub(crate) triggers: &'static [&'static str],
    /// Says whether it has SQLite databases. If it has none, the app keeps its tables on a libSQL server.
    pub(crate) has_sqlite: bool,
    /// Says whether an app there may call itself (`http://self`) and its other components (`http://*.spin.internal`).
    pub(crate) calls_itself: bool,
    /// The default of the variable `environment`.
    pub(crate) environment: &'static str,
    /// The memory that an instance is taken to have, in MiB: the default of the variable `instance_memory_mib`. It is less
    /// than usual if the host gives less, or if it is not known.
    pub(crate) instance_memory: &'static str,
    /// The defaults of the variables with the host's limits.
    pub(crate) limits: &'static [(&'static str, &'static str)],
    /// The things that do not work there, as a sentence.
    pub(crate) warning: Option<&'static str>,
}

impl HostName {
    /// The rules of the host.
    pub(crate) fn rules(self) -> &'static Host {
        match self {
            Self::Local => &LOCAL,
            Self::HttpOnly => &HTTP_ONLY,
            Self::Spinkube => &SPINKUBE,
            Self::FermyonCloud => &FERMYON_CLOUD,
            Self::Akamai => &AKAMAI,
        }
    }
}

const LOCAL: Host = Host {
    name: "This machine",
    triggers: &["http", "redis", "cron"],
    has_sqlite: true,
    calls_itself: true,
    environment: "development",
    instance_memory: "256",
    limits: &[],
    warning: None,
};

const HTTP_ONLY: Host = Host {
    name: "A host with HTTP alone",
    triggers: &["http"],
    has_sqlite: true,
    calls_itself: true,
    environment: "production",
    instance_memory: "256",
    limits: &[],
    warning: None,
};

/// The shim refuses an app that has a cron trigger.
const SPINKUBE: Host = Host {
    name: "SpinKube",
    triggers: &["http", "redis"],
    has_sqlite: true,
    calls_itself: true,
    environment: "production",
    instance_memory: "256",
    limits: &[],
    warning: Some(
        "SpinKube keeps no file of a pod, so the database must be a libSQL server by the runtime config; see \
         deploy/spinkube/README.md.",
    ),
};

/// The host Fermyon Cloud. It is not known whether `http://self` works there. An app that may not call itself does that
/// work in its own instance.
const FERMYON_CLOUD: Host = Host {
    name: "Fermyon Cloud",
    triggers: &["http"],
    has_sqlite: true,
    calls_itself: false,
    environment: "production",
    instance_memory: "128",
    limits: &[
        // The host takes 10 MB, so 9 MiB leave room for an envelope.
        ("max_body_mib", "9"),
        ("max_handler_seconds", "30"),
        // The host has 1,024 keys. The cache uses twice this number, and the webhook key needs one more.
        ("session_places", "500"),
        ("private_networks", "open"),
    ],
    warning: Some(
        "Fermyon Cloud ends a request after 30 s, takes bodies up to 10 MB, does not keep the app from private networks, \
         and its quota carries a demonstration only; see deploy/fermyon-cloud/README.md.",
    ),
};

const AKAMAI: Host = Host {
    name: "Akamai Functions",
    triggers: &["http"],
    has_sqlite: false,
    calls_itself: true,
    environment: "production",
    instance_memory: "128",
    limits: &[
        // The host takes 10 MiB, and a statement for libSQL has its bytes as Base64.
        ("max_body_mib", "7"),
        ("max_handler_seconds", "30"),
        ("private_networks", "open"),
    ],
    warning: Some(
        "Akamai Functions has no SQLite: build with `cargo xtask build --hrana`, and set `database_url` to the https \
         address of a libSQL server. It ends a request after 30 s, takes bodies up to 10 MiB, and does not keep the app \
         from private networks; see deploy/akamai/README.md.",
    ),
};
