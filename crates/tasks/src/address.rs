//! Addresses that users give, which we are to call.
//!
//! Only http(s), and no literal address of a private network. A name that leads to one is for the
//! host's network blocking to refuse, for only the host knows where it leads in the end.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Checks the address of something to be fetched. Errors are words for whoever gave it.
pub(crate) fn check(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "is not a URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http or https URL".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user or a password in it".into());
    }
    let public = match url.host() {
        Some(Host::Ipv4(address)) => is_public_v4(address),
        Some(Host::Ipv6(address)) => is_public_v6(address),
        Some(Host::Domain(_)) => true,
        None => false,
    };
    if public {
        Ok(url)
    } else {
        Err("must be at a public address".into())
    }
}

/// Checks the address of an agent that wants to be told. In development it may be on this machine.
pub(crate) fn check_callback(text: &str, development: bool) -> Result<(), String> {
    let loopback = Url::parse(text).is_ok_and(|url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    });
    if development && loopback && text.starts_with("http") {
        return Ok(());
    }
    check(text).map(|_| ())
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        // Shared address space, benchmarking, protocol assignments, reserved (RFC 6890).
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 192 && b == 0 && c == 0)
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = address.to_ipv4() {
        return is_public_v4(v4);
    }
    let [first, second, ..] = address.segments();
    // An IPv4 address behind NAT64 or 6to4.
    let octets = address.octets();
    let embedded = match (first, second) {
        (0x64, 0xff9b) => Some(&octets[12..16]),
        (0x2002, _) => Some(&octets[2..6]),
        _ => None,
    };
    if let Some([a, b, c, d]) = embedded.map(|v4| <[u8; 4]>::try_from(v4).unwrap_or_default()) {
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Global unicast, less documentation. What is not that is local, or not in use.
    first & 0xe000 == 0x2000 && !(first == 0x2001 && second == 0xdb8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_web_addresses() {
        for good in [
            "https://example.com/a.png",
            "http://example.com:8080/a?b=c",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            // A name: where it leads is for the host to judge.
            "http://localhost/a.png",
        ] {
            assert!(check(good).is_ok(), "{good}: {:?}", check(good));
        }
        for bad in [
            "",
            "picture.png",
            "file:///etc/passwd",
            "ftp://example.com/",
            "http://user:password@example.com/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://100.64.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn in_development_an_agent_may_be_on_this_machine() {
        for url in ["http://127.0.0.1:9000/done", "http://[::1]:9000/"] {
            assert!(check_callback(url, true).is_ok(), "{url}");
            assert!(check_callback(url, false).is_err(), "{url}");
        }
        assert!(check_callback("http://10.0.0.1/", true).is_err());
        assert!(check_callback("file://127.0.0.1/x", true).is_err());
    }
}
