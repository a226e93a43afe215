//! The list of public and private networks. The app checks literal addresses that users send against it, and the local
//! host checks the addresses of names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns whether an address is of the public internet, and not of a private network, this machine, a protocol's own use
/// or documentation (the IANA registries of special-purpose addresses). An IPv6 address that stands for an IPv4 address
/// is judged as that one.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => is_public_v4(address),
            None => is_public_v6(address),
        },
    }
}

/// Returns whether the host of a URL (an IPv6 address in brackets) leads to this machine or a private network, and so to
/// different servers on different machines. A name of one word does so, such as `localhost` or that of a container.
pub fn is_local_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .map_or(!host.contains('.'), |address| !is_public(address))
}

/// Returns whether the host of a URL is the unspecified address (`0.0.0.0`, `[::]`): a server that listens there listens
/// on every network, and no client on another machine can use it. Browsers read `0` as the same address.
pub fn is_unspecified_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(IpAddr::V4(address)) => address.is_unspecified(),
        Ok(IpAddr::V6(address)) => {
            embedded_v4(address).map_or(address.is_unspecified(), |v4| v4.is_unspecified())
        }
        Err(_) => bare.split('.').all(|part| {
            let digits = part.strip_prefix("0x").unwrap_or(part);
            !digits.is_empty() && digits.bytes().all(|digit| digit == b'0')
        }),
    }
}

/// Returns whether the host of a URL is local ([`is_local_host`]), or a name with an ending that no public server has.
pub fn is_private_host(host: &str) -> bool {
    let ends = [".localhost", ".local", ".internal"];
    is_local_host(host) || ends.iter().any(|end| host.ends_with(end))
}

/// The IPv4 address that an IPv6 address stands for: mapped or compatible, behind NAT64 (64:ff9b::/96) or 6to4
/// (2002::/16).
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, _, a, b, c, d, ..] = address.octets();
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        [0x2002, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => address.to_ipv4(),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        // This network, private networks, shared address space, loopback and link-local.
        [0 | 10 | 127, ..]
            | [100, 64..128, ..]
            | [169, 254, ..]
            | [172, 16..32, ..]
            | [192, 168, ..]
            // Protocol assignments, documentation, relays of 6to4, benchmarking.
            | [192, 0, 0 | 2, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [192, 88, 99, _]
            | [198, 18..20, ..]
            // Multicast, reserved, broadcast.
            | [224..=255, ..]
    )
}

/// Returns whether an address is global unicast (2000::/3), without protocol assignments (2001::/23) and documentation.
/// The rest is local or not in use.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_names_a_place_or_none() {
        for (host, unspecified, private) in [
            ("0.0.0.0", true, true),
            ("[::]", true, true),
            ("[::ffff:0.0.0.0]", true, true),
            ("0", true, true),
            ("0x0.0", true, false),
            ("127.0.0.1", false, true),
            ("[fd00::1]", false, true),
            ("[fe80::1]", false, true),
            ("[2600::1]", false, false),
            ("localhost", false, true),
            ("canvas", false, true),
            ("my-mac.local", false, true),
            ("host.docker.internal", false, true),
            ("h.example", false, false),
            ("8.8.8.8", false, false),
        ] {
            assert_eq!(is_unspecified_host(host), unspecified, "{host}");
            assert_eq!(is_private_host(host), private, "{host}");
        }
    }

    #[test]
    fn each_range_is_public_or_not() {
        for (first, last, public) in [
            ("0.0.0.0", "0.255.255.255", false),
            ("1.0.0.0", "9.255.255.255", true),
            ("10.0.0.0", "10.255.255.255", false),
            ("11.0.0.0", "100.63.255.255", true),
            ("100.64.0.0", "100.127.255.255", false),
            ("100.128.0.0", "126.255.255.255", true),
            ("127.0.0.0", "127.255.255.255", false),
            ("169.254.0.0", "169.254.255.255", false),
            ("172.15.255.255", "172.15.255.255", true),
            ("172.16.0.0", "172.31.255.255", false),
            ("172.32.0.0", "191.255.255.255", true),
            ("192.0.0.0", "192.0.0.255", false),
            ("192.0.1.0", "192.0.1.255", true),
            ("192.0.2.0", "192.0.2.255", false),
            ("192.88.99.0", "192.88.99.255", false),
            ("192.168.0.0", "192.168.255.255", false),
            ("198.17.255.255", "198.17.255.255", true),
            ("198.18.0.0", "198.19.255.255", false),
            ("198.51.100.0", "198.51.100.255", false),
            ("203.0.113.0", "203.0.113.255", false),
            ("203.0.114.0", "223.255.255.255", true),
            ("224.0.0.0", "255.255.255.255", false),
            ("::", "::1", false),
            ("::10.0.0.1", "::10.0.0.2", false),
            ("::ffff:10.0.0.0", "::ffff:10.255.255.255", false),
            ("::ffff:1.1.1.1", "::ffff:1.1.1.1", true),
            ("64:ff9b::7f00:0", "64:ff9b::7fff:ffff", false),
            ("64:ff9b::101:101", "64:ff9b::101:101", true),
            // The local NAT64 prefix (RFC 8215) is not public, whatever IPv4 address it stands for.
            ("64:ff9b:1::101:101", "64:ff9b:1:ffff::101:101", false),
            ("100::", "100::ffff", false),
            ("2001::", "2001:1ff:ffff::", false),
            ("2001:200::", "2001:db7:ffff::", true),
            ("2001:db8::", "2001:db8:ffff::", false),
            ("2001:db9::", "2001:ffff::", true),
            ("2002:a00:1::", "2002:aff:ffff::", false),
            ("2002:101:101::", "2002:101:101::1", true),
            ("2600::beef", "2a00:1450:4001::1", true),
            ("3fff::", "3fff:fff:ffff::", false),
            ("3fff:1000::", "3fff:ffff::", true),
            ("4000::", "5f00::1", false),
            ("fc00::", "fdff::1", false),
            ("fe80::1", "febf::1", false),
            ("ff00::", "ff02::1", false),
        ] {
            for address in [first, last] {
                assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
            }
        }
    }
}
