//! The networks that guests may not reach, by address or by name: `[outbound_networking] block_networks` in Spin's
//! runtime configuration.

use std::net::IpAddr;

use ipnet::IpNet;
use platform::networks::{embedded_v4, is_public};
use serde::Deserialize;

/// The blocked networks. The app and this host share one list of private addresses, in `platform`.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockedNetworks {
    networks: Vec<IpNet>,
    private: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutboundNetworking {
    #[serde(default)]
    block_networks: Vec<String>,
    #[serde(default, rename = "max_socket_connections")]
    _max_socket_connections: Option<usize>,
    #[serde(default, rename = "max_total_connections")]
    _max_total_connections: Option<usize>,
}

impl BlockedNetworks {
    /// Blocks every network that is not public.
    fn private() -> Self {
        Self {
            networks: Vec::new(),
            private: true,
        }
    }

    /// Reads the section of a runtime configuration.
    pub(crate) fn parse(section: toml::Value) -> Result<Self, String> {
        let section: OutboundNetworking = section.try_into().map_err(|e: toml::de::Error| {
            format!("outbound_networking: {}", e.message().replace('\n', " "))
        })?;
        let mut blocked = Self::default();
        for text in &section.block_networks {
            if text == "private" {
                blocked.private = true;
                continue;
            }
            let network = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| format!("outbound_networking.block_networks: {text:?} is neither a network like 10.0.0.0/8 nor \"private\""))?;
            blocked.networks.push(network);
        }
        Ok(blocked)
    }

    /// Returns whether `address` is in a blocked network.
    pub(crate) fn blocks(&self, address: IpAddr) -> bool {
        if (self.private && !is_public(address))
            || self.networks.iter().any(|net| net.contains(&address))
        {
            return true;
        }
        // An IPv6 address that stands for an IPv4 address is judged as that IPv4 address.
        match address {
            IpAddr::V6(v6) => embedded_v4(v6).is_some_and(|v4| self.blocks(v4.into())),
            IpAddr::V4(_) => false,
        }
    }
}

/// The networks that are blocked for the hosts that a component may call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocked {
    /// The networks that are blocked for hosts that only a wildcard in `allowed_outbound_hosts` allows.
    pub(crate) by_wildcard: BlockedNetworks,
    /// The networks that are blocked for hosts that `allowed_outbound_hosts` names, because the author of the entry meant
    /// that host.
    pub(crate) by_name: BlockedNetworks,
}

impl Blocked {
    /// The operator's networks, which count for everything, as on Spin. If the configuration has no such section,
    /// private networks are blocked for wildcards, except in development.
    pub(crate) fn new(from_config: Option<BlockedNetworks>, development: bool) -> Self {
        match from_config {
            Some(blocked) => Self {
                by_wildcard: blocked.clone(),
                by_name: blocked,
            },
            None if development => Self::default(),
            None => Self {
                by_wildcard: BlockedNetworks::private(),
                by_name: BlockedNetworks::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_blocks_what_is_not_public() {
        let blocked = BlockedNetworks::private();
        // The list itself is tested in `platform`.
        for ip in ["10.1.2.3", "::ffff:10.0.0.1", "2002:a00:1::1", "3fff::1"] {
            assert!(blocked.blocks(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "2600::beef"] {
            assert!(!blocked.blocks(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_runtime_config_names_networks() {
        let read = |text: &str| BlockedNetworks::parse(text.parse::<toml::Table>().unwrap().into());
        let some = read("block_networks = [\"1.2.3.0/24\", \"private\"]").unwrap();
        assert!(
            some.blocks("1.2.3.4".parse().unwrap()) && some.blocks("10.0.0.1".parse().unwrap())
        );
        assert!(!some.blocks("1.2.4.4".parse().unwrap()));
        // The same address, written as IPv6.
        for ip in ["::ffff:1.2.3.4", "64:ff9b::102:304", "2002:102:304::1"] {
            assert!(some.blocks(ip.parse().unwrap()), "{ip}");
        }
        let none = read("block_networks = []").unwrap();
        assert!(!none.blocks("127.0.0.1".parse().unwrap()));
        for bad in ["block_networks = [\"all\"]", "blok = []"] {
            let error = read(bad).unwrap_err();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
