//! The limits of other hosts, so that an app for such a host meets them here first.

use std::time::Duration;

/// A host whose limits this one keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OtherHost {
    /// The host Fermyon Cloud.
    FermyonCloud,
    /// The host Akamai Functions.
    Akamai,
}

/// The limits of another host, in addition to those that this host has by itself.
#[derive(Debug)]
pub struct HostLimits {
    /// The time of one request, after which its instance is stopped.
    pub(crate) handler: Duration,
    /// The memory of an instance, if it is known.
    pub(crate) memory: Option<usize>,
    /// The bytes of a request's body.
    pub(crate) body: usize,
    /// The text of the answer to a request with a larger body.
    pub(crate) body_words: &'static str,
    /// The limits of a key-value store, if they are known.
    pub(crate) keys: Option<Keys>,
    /// The requests to other hosts that an app may send in an hour, if they are counted. Requests beyond that are
    /// logged and not refused, because a host may bill them instead.
    pub(crate) outbound_an_hour: Option<u32>,
}

/// The limits of a key-value store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    /// The most keys of a store.
    pub(crate) count: u32,
    /// The most bytes of a key.
    pub(crate) key: usize,
    /// The most bytes of a value.
    pub(crate) value: usize,
}

impl OtherHost {
    /// The limits of the host.
    pub(crate) fn limits(self) -> &'static HostLimits {
        match self {
            Self::FermyonCloud => &FERMYON_CLOUD,
            Self::Akamai => &AKAMAI,
        }
    }
}

const FERMYON_CLOUD: HostLimits = HostLimits {
    handler: Duration::from_secs(30),
    memory: None,
    body: 10_000_000,
    body_words: "A body has 10 MB at most.",
    keys: Some(Keys {
        count: 1024,
        key: 255,
        value: 1_000_000,
    }),
    outbound_an_hour: Some(500),
};

const AKAMAI: HostLimits = HostLimits {
    handler: Duration::from_secs(30),
    memory: Some(128 << 20),
    body: 10 << 20,
    body_words: "A body has 10 MiB at most.",
    keys: None,
    outbound_an_hour: None,
};
