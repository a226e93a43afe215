//! The address on which a server listens, as operators write it.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Reads `127.0.0.1:8787`, `[::1]:8787`, `localhost:8787`, `:8787` or `8787`. Without a host it is this machine alone,
/// because a server must not be open to the whole network unless its operator asks for that, as by `0.0.0.0:8787`.
/// Another name is looked up.
///
/// # Errors
/// The reason, in words for the operator, if the text is not an address.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or_default();
        return Err(format!(
            "the address must have neither a scheme nor a path: write {address}"
        ));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port
        .parse()
        .map_err(|_| "not an address such as 127.0.0.1:8787, localhost:8787 or 8787".to_owned())?;
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|error| format!("{host:?} cannot be looked up: {error}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    let first = found.into_iter().next();
    first.ok_or_else(|| format!("{host:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_about_a_url_says_what_to_write() {
        for url in ["http://127.0.0.1:8787", "https://127.0.0.1:8787/sync/demo"] {
            let words = listen_address(url).unwrap_err();
            assert!(words.ends_with("write 127.0.0.1:8787"), "{words}");
        }
    }

    #[test]
    fn an_address_is_written_in_many_ways() {
        for (text, address) in [
            ("127.0.0.1:8787", Some("127.0.0.1:8787")),
            ("0.0.0.0:8787", Some("0.0.0.0:8787")),
            ("[::1]:8787", Some("[::1]:8787")),
            ("localhost:8787", Some("127.0.0.1:8787")),
            ("LOCALHOST:0", Some("127.0.0.1:0")),
            (":8787", Some("127.0.0.1:8787")),
            ("8787", Some("127.0.0.1:8787")),
            ("", None),
            (":", None),
            ("localhost", None),
            ("localhost:", None),
            ("8787:", None),
            ("87870", None),
            ("http://127.0.0.1:8787", None),
            ("no such name:1", None),
        ] {
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!(listen_address(text).ok(), expected, "{text}");
        }
    }
}
