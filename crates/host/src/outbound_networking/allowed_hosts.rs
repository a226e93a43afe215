//! The part of the manifest: `allowed_outbound_hosts`, which lists the addresses that a component may call.
//!
//! An entry is `scheme://host[:port]`, and each part may be `*`. A host may be `*.example.com`, an address range
//! (`10.0.0.0/8`) or `self`; a port may be a range (`8000..9000`, end excluded). If an entry has no port, it is the
//! scheme's own.

use ipnet::IpNet;
use url::Host;

/// The domain in which Spin lets components of one application call each other. This host does not.
const SERVICE_CHAINING: &str = "spin.internal";
/// The host that means "this application", for SDKs that insist on a host.
pub(crate) const SELF_HOST: &str = "self.alt";

/// The addresses that one component may call.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedHosts {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    scheme: Option<String>,
    host: HostRule,
    port: Option<std::ops::Range<u32>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Any,
    AnySubdomain(String),
    ThisApp,
    One(Host),
    Range(IpNet),
}

fn well_known_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "postgres" => 5432,
        "mysql" => 3306,
        "redis" => 6379,
        "mqtt" => 1883,
        "http" => 80,
        "https" => 443,
        _ => return None,
    })
}

/// Returns whether a host is a component of the application, by the name that service chaining gives it.
pub(crate) fn is_chaining(host: &str) -> bool {
    host.strip_suffix(SERVICE_CHAINING)
        .is_some_and(|rest| rest.ends_with('.'))
}

impl HostRule {
    fn parse(host: &str) -> Result<Self, String> {
        match host {
            "*" => return Ok(Self::Any),
            "self" | SELF_HOST => return Ok(Self::ThisApp),
            _ => {}
        }
        if host.starts_with('{') {
            return Err("this host has no lists of hosts; write one entry for each".into());
        }
        if let Ok(range) = host.parse::<IpNet>() {
            return Ok(Self::Range(range.trunc()));
        }
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.contains('/') {
            return Err("must not have a path".into());
        }
        if is_chaining(host) {
            return Err("this host has no service chaining; call http://self instead".into());
        }
        if let Some(domain) = host.strip_prefix("*.") {
            return match Host::parse(domain) {
                Ok(Host::Domain(domain)) if !domain.contains('*') => {
                    Ok(Self::AnySubdomain(format!(".{domain}")))
                }
                _ => Err("after `*.` must come a domain".into()),
            };
        }
        if host.contains('*') {
            return Err("a wildcard may only be the whole host or `*.` before a domain".into());
        }
        Host::parse(host)
            .map(Self::One)
            .map_err(|e| format!("host {host:?}: {e}"))
    }

    fn allows(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::AnySubdomain(suffix), Host::Domain(domain)) => domain.ends_with(suffix),
            (Self::One(one), host) => one == host,
            (Self::Range(range), Host::Ipv4(ip)) => range.contains(&std::net::IpAddr::from(*ip)),
            (Self::Range(range), Host::Ipv6(ip)) => range.contains(&std::net::IpAddr::from(*ip)),
            _ => false,
        }
    }
}

fn parse_port(port: &str, scheme: &str) -> Result<Option<std::ops::Range<u32>>, String> {
    let number = |text: &str| {
        text.parse::<u16>()
            .map(u32::from)
            .map_err(|_| format!("port {text:?} is not a port"))
    };
    match port {
        "*" => Ok(None),
        "" => match well_known_port(scheme) {
            Some(port) => Ok(Some(u32::from(port)..u32::from(port) + 1)),
            None => Err(format!(
                "needs a port, because scheme {scheme:?} has none of its own"
            )),
        },
        _ if port.starts_with('{') => {
            Err("this host has no lists of ports; write one entry for each".into())
        }
        _ => match port.split_once("..") {
            Some((start, end)) => Ok(Some(number(start)?..number(end)?)),
            None => number(port).map(|port| Some(port..port + 1)),
        },
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("must be <scheme>://<host>[:<port>], e.g. https://example.com".into());
        };
        // A colon may be part of an IPv6 address.
        let (host, port) = match rest.rsplit_once(':') {
            None => (rest, ""),
            Some((host, "")) => (host, ""),
            Some(_) if HostRule::parse(rest).is_ok() => (rest, ""),
            Some((host, port)) => (host, port.strip_suffix('/').unwrap_or(port)),
        };
        if port.contains('/') {
            return Err("must not have a path".into());
        }
        let port = parse_port(port, scheme)?;
        let scheme = match scheme {
            "*" => None,
            _ if !scheme.is_empty() && scheme.chars().all(char::is_alphabetic) => {
                Some(scheme.to_owned())
            }
            _ => return Err(format!("scheme {scheme:?} must be letters or `*`")),
        };
        Ok(Self {
            scheme,
            host: HostRule::parse(host)?,
            port,
        })
    }
}

impl AllowedHosts {
    /// Parses the entries. An entry from a template (`true`) may be empty and then allows nothing.
    pub(crate) fn parse<'a>(
        entries: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Result<Self, String> {
        let mut hosts = Self::default();
        for (text, from_template) in entries {
            hosts
                .entries
                .extend(Self::parse_one(text, from_template)?.entries);
        }
        Ok(hosts)
    }

    /// Parses one entry.
    pub(crate) fn parse_one(text: &str, from_template: bool) -> Result<Self, String> {
        if from_template && matches!(text, "" | "http://" | "https://") {
            return Ok(Self::default());
        }
        if let Some((_, address)) = text.rsplit_once('@') {
            // The text before the `@` may be a password, so the error leaves it out.
            return Err(format!(
                "{address:?}: must not have a name or a password before it, because Spin takes them as a part of the host"
            ));
        }
        let entry = Entry::parse(text).map_err(|e| format!("{text:?}: {e}"))?;
        Ok(Self {
            entries: vec![entry],
        })
    }

    /// Returns whether a call to `host` is allowed. Without a port, it goes to the scheme's own.
    pub(crate) fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.any(scheme, host, port, |_| true)
    }

    /// Returns whether an entry that allows a call to `host` names it, or a range of addresses around it. A host that
    /// only a wildcard allows is not named.
    pub(crate) fn names(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.any(scheme, host, port, |rule| {
            matches!(rule, HostRule::One(_) | HostRule::Range(_))
        })
    }

    fn any(
        &self,
        scheme: &str,
        host: &str,
        port: Option<u16>,
        counts: impl Fn(&HostRule) -> bool,
    ) -> bool {
        let Ok(host) = Host::parse(host) else {
            return false;
        };
        let port = port.or_else(|| well_known_port(scheme)).map(u32::from);
        self.entries.iter().any(|entry| {
            counts(&entry.host)
                && entry.scheme.as_deref().is_none_or(|s| s == scheme)
                && entry.host.allows(&host)
                && match (&entry.port, port) {
                    (None, _) => true,
                    (Some(range), Some(port)) => range.contains(&port),
                    (Some(_), None) => false,
                }
        })
    }

    /// Returns whether the component may call its own application.
    pub(crate) fn allows_self(&self) -> bool {
        self.entries.iter().any(|entry| {
            entry
                .scheme
                .as_deref()
                .is_none_or(|s| s == "http" || s == "https")
                && matches!(entry.host, HostRule::Any | HostRule::ThisApp)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for entry in [
            "rediss://me:secret@redis.example:6379",
            "redis://:secret@10.0.0.1:1/",
        ] {
            let error = AllowedHosts::parse_one(entry, true).unwrap_err();
            assert!(
                error.contains("a password") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn entries_allow_what_they_say() {
        // An entry, calls that it allows, and calls that it does not.
        type Call = (&'static str, &'static str, Option<u16>);
        let table: &[(&str, &[Call], &[Call])] = &[
            (
                "https://example.com",
                &[
                    ("https", "example.com", None),
                    ("https", "example.com", Some(443)),
                    ("https", "EXAMPLE.com", None),
                ],
                &[
                    ("http", "example.com", None),
                    ("https", "example.com", Some(8443)),
                    ("https", "a.example.com", None),
                    ("https", "example.com.evil", None),
                ],
            ),
            (
                "https://*.example.com",
                &[
                    ("https", "a.example.com", None),
                    ("https", "a.b.example.com", None),
                ],
                &[
                    ("https", "example.com", None),
                    ("https", "evilexample.com", None),
                ],
            ),
            (
                "*://127.0.0.1:*",
                &[("redis", "127.0.0.1", None), ("http", "127.0.0.1", Some(1))],
                &[("http", "127.0.0.2", None)],
            ),
            (
                "http://10.0.0.0/8:8080",
                &[("http", "10.1.2.3", Some(8080))],
                &[("http", "11.0.0.1", Some(8080)), ("http", "10.1.2.3", None)],
            ),
            (
                "http://127.0.0.1:8000..8002",
                &[("http", "127.0.0.1", Some(8001))],
                &[("http", "127.0.0.1", Some(8002))],
            ),
            (
                "http://[::1]:80",
                &[("http", "[::1]", None)],
                &[("http", "[::2]", None)],
            ),
            (
                "redis://localhost",
                &[("redis", "localhost", Some(6379))],
                &[("redis", "localhost", Some(6380))],
            ),
            ("*://*:*", &[("https", "anything.test", Some(1))], &[]),
            ("http://self", &[], &[("http", "self.alt", None)]),
        ];
        for (entry, yes, no) in table {
            let hosts = AllowedHosts::parse_one(entry, false).unwrap();
            for (scheme, host, port) in *yes {
                assert!(
                    hosts.allows(scheme, host, *port),
                    "{entry} allows {scheme} {host} {port:?}"
                );
            }
            for (scheme, host, port) in *no {
                assert!(
                    !hosts.allows(scheme, host, *port),
                    "{entry} refuses {scheme} {host} {port:?}"
                );
            }
        }
    }

    #[test]
    fn a_host_is_named_by_an_entry_that_is_no_wildcard() {
        let entries = [
            ("http://*:*", false),
            ("https://*.example.com", false),
            ("http://127.0.0.1:3000/", true),
            ("https://storage.example.com", true),
            ("http://10.1.0.0/16:9000", false),
            ("http://[::1]:8080", true),
            ("http://self", false),
            // An empty setting.
            ("", true),
        ];
        let hosts = AllowedHosts::parse(entries).unwrap();
        for (scheme, host, port) in [
            ("http", "127.0.0.1", Some(3000)),
            ("https", "storage.example.com", None),
            ("https", "STORAGE.example.com", Some(443)),
            ("http", "10.1.2.3", Some(9000)),
            ("http", "[::1]", Some(8080)),
        ] {
            assert!(hosts.names(scheme, host, port), "{scheme} {host} {port:?}");
        }
        for (scheme, host, port) in [
            ("http", "127.0.0.1", Some(3001)),
            ("http", "127.0.0.1", None),
            ("http", "127.0.0.2", Some(3000)),
            // Names that may lead there.
            ("http", "localhost", Some(3000)),
            ("http", "evil.example", Some(3000)),
            ("https", "other.example.com", None),
            ("http", "10.2.0.1", Some(9000)),
            ("http", "[::2]", Some(8080)),
            ("http", "self", None),
        ] {
            assert!(hosts.allows(scheme, host, port), "{scheme} {host} {port:?}");
            assert!(!hosts.names(scheme, host, port), "{scheme} {host} {port:?}");
        }
        // Named, but not for this scheme.
        assert!(!hosts.names("http", "storage.example.com", Some(443)));
        assert!(!AllowedHosts::default().names("http", "127.0.0.1", None));
    }

    #[test]
    fn this_application_is_allowed_by_name_or_wildcard() {
        let of = |entry: &str| AllowedHosts::parse_one(entry, false).unwrap();
        assert!(of("http://self").allows_self());
        assert!(of("*://*:*").allows_self());
        assert!(!of("http://example.com").allows_self());
    }

    #[test]
    fn malformed_entries_are_refused() {
        for entry in [
            "",
            "*",
            "example.com",
            "https://",
            "https://example.com/path",
            "https://a.*.com",
            "https://*.*",
            "foo://host",
            "https://host:port",
            "https://host:70000",
            "https://{a,b}",
            "h2c://host:1",
            "https://host:{1,2}",
            "http://poller.spin.internal",
            "http://*.spin.internal",
        ] {
            assert!(AllowedHosts::parse_one(entry, false).is_err(), "{entry}");
        }
        // An empty setting makes an entry that allows nothing.
        for empty in ["", "http://", "https://"] {
            let hosts = AllowedHosts::parse_one(empty, true).unwrap();
            assert!(!hosts.allows("http", "a", None), "{empty:?}");
        }
    }
}
