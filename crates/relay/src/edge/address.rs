//! The addresses of clients.

use http::{HeaderMap, HeaderName};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The header in which each proxy names the client that it got a request from.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address from which a request comes. If the peer is a proxy that the relay trusts, it is the one that the proxy
/// named last.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trust_forwarded: bool) -> IpAddr {
    let named = headers.get_all(FORWARDED_FOR).iter().next_back();
    let named = named
        .filter(|_| trust_forwarded)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next());
    named.and_then(parse).unwrap_or(peer)
}

/// Reads an address, with or without a port.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse()
        .ok()
        .or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// The network that is limited as one: of IPv4 the address itself, of IPv6 its /64, because every client there has many
/// addresses.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn addresses_are_limited_by_their_network() {
        for (a, b, together) in [
            ("2001:db8::1", "2001:db8::2:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
        ] {
            let of = |text: &str| network(text.parse().unwrap());
            assert_eq!(of(a) == of(b), together, "{a} {b}");
        }
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        let named = IpAddr::from([6, 6, 6, 6]);
        for (header, trusted, expected) in [
            ("6.6.6.6", true, named),
            ("6.6.6.6", false, peer),
            ("1.1.1.1, 6.6.6.6", true, named),
            ("6.6.6.6:4711", true, named),
            ("1.1.1.1, no address", true, peer),
            ("[2001:db8::1]", true, "2001:db8::1".parse().unwrap()),
        ] {
            let value = HeaderValue::from_static(header);
            let headers = HeaderMap::from_iter([(FORWARDED_FOR, value)]);
            assert_eq!(client(peer, &headers, trusted), expected, "{header}");
        }
        assert_eq!(client(peer, &HeaderMap::new(), true), peer);
    }
}
