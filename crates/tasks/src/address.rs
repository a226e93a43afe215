//! The addresses that users send and this server calls.
//!
//! They must be http(s), and neither a literal address of a private network nor a name that can only lead
//! to one. The host's network blocking refuses any other name that leads to a private network, because
//! only the host knows the address of a name.

use platform::{Config, config::PUBLIC_URL, networks};
use url::{Host, Url};

/// Checks an address to fetch from. The caller must call the URL that this returns, because another parser may read
/// the text differently.
///
/// # Errors
/// The reason, in words for the user.
pub(crate) fn check(text: &str) -> Result<Url, String> {
    of_the_web(text, is_public)
}

/// Checks the address for notifications of an agent. In development it may be on this machine. It must not lead to
/// the internal routes of this server.
///
/// # Errors
/// The reason, in words for the agent.
pub(crate) fn check_callback(text: &str, config: &dyn Config) -> Result<Url, String> {
    let development = config.is_development();
    let url = of_the_web(text, |host| {
        is_public(host) || (development && is_this_machine(host))
    })?;
    let public = config.read(PUBLIC_URL);
    let public = public.map_err(|_| "cannot be checked at the moment".to_owned())?;
    let public = public.and_then(|own| Url::parse(&own).ok());
    let may_be_ours = url.host().is_some_and(|host| is_this_machine(&host))
        || public.is_some_and(|public| name(&public) == name(&url));
    if may_be_ours && may_be_internal(url.path()) {
        return Err("must not lead to an internal route of this server".into());
    }
    Ok(url)
}

fn name(url: &Url) -> Option<&str> {
    Some(url.host_str()?.trim_end_matches('.'))
}

/// Returns whether a server may take this path for `/internal` or a path below it: it holds that word, or escapes that
/// may hide it (of letters, and of `%`).
fn may_be_internal(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("internal")
        || ["%4", "%5", "%6", "%7", "%25"]
            .iter()
            .any(|escape| path.contains(escape))
}

fn of_the_web(text: &str, may_be_at: impl Fn(&Host<&str>) -> bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "is not a URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http or https URL".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user or a password in it".into());
    }
    if url.host().is_some_and(|host| may_be_at(&host)) {
        Ok(url)
    } else {
        Err("must be at a public address".into())
    }
}

fn is_public(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => networks::is_public((*address).into()),
        Host::Ipv6(address) => networks::is_public((*address).into()),
        Host::Domain(name) => is_public_name(name),
    }
}

/// Returns whether the name may be one of the public DNS.
fn is_public_name(name: &str) -> bool {
    // A name without a dot is one of this machine or its network, or Spin's `self`.
    let name = name.trim_end_matches('.');
    let Some((_, last)) = name.rsplit_once('.') else {
        return false;
    };
    // The metadata servers of clouds are below `internal`, and the components of this application below
    // `spin.internal`. `alt` is not in the DNS, but `self.alt` is this application.
    !matches!(last, "localhost" | "local" | "internal" | "alt")
        && name != "home.arpa"
        && !name.ends_with(".home.arpa")
}

/// Returns whether the name is reserved for examples and tests (RFC 6761), so that no server of the Internet has it.
pub(crate) fn is_reserved(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let last = host.rsplit('.').next().unwrap_or_default();
    matches!(last, "example" | "invalid" | "test")
}

fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;

    use super::*;

    fn config(development: bool) -> MapConfig {
        MapConfig::from_pairs(&[
            (
                "environment",
                if development {
                    "development"
                } else {
                    "production"
                },
            ),
            ("public_url", "https://canvas.example"),
        ])
    }

    #[test]
    fn only_public_web_addresses() {
        for good in [
            "https://example.com/a.png",
            "http://example.com:8080/a?b=c",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            // The host judges where names lead.
            "http://example.com./a.png",
            "https://localhost.example.com/",
            "https://internal.example.com/",
            "https://local.alternative.example/",
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
            "http://[2001::1]/",
            "http://[2001:db8::1]/",
            "http://[3fff::1]/",
            "http://127.0.0.1./",
            "http://127%2e0%2e0%2e1/",
            "http://\u{ff11}27.0.0.1/",
            "http://127\u{3002}0\u{3002}0\u{3002}1/",
            "http:\\\\127.0.0.1/",
            "http:///127.0.0.1/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1#@example.com/",
            "http://127.0.0.1\\@example.com/",
            "http://localhost/a.png",
            "http://LOCALHOST:8080/a.png",
            "http://loc\talhost/",
            "http://localhost./",
            "http://localhost../",
            "http://\u{24db}ocalhost/",
            "http://a.localhost/",
            "http://a.localhost./",
            "http://localhost.localdomain.local/",
            "http://printer.local/",
            "http://metadata.google.internal/",
            "http://metadata.google.internal./",
            "http://host.docker.internal/",
            "http://poller.spin.internal/internal/poll",
            "http://POLLER.Spin.Internal./internal/poll",
            "http://self/internal/poll",
            "http://self./internal/poll",
            "http://self.alt/internal/poll",
            "http://self.alt./internal/poll",
            "http://router.home.arpa/",
            "http://intranet/",
            "http://metadata/",
            "http:///",
            "http://:80/",
            "http://./",
        ] {
            assert!(check(bad).is_err(), "{bad}");
            assert!(check_callback(bad, &config(false)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_checked_is_what_is_called() {
        for (text, called) in [
            ("HTTP:/Example.COM", "http://example.com/"),
            (
                "http://example.com\\@127.0.0.1/",
                "http://example.com/@127.0.0.1/",
            ),
            ("http://exam\tple.com/a", "http://example.com/a"),
        ] {
            assert_eq!(check(text).unwrap().as_str(), called);
        }
    }

    #[test]
    fn in_development_an_agent_may_be_on_this_machine() {
        for url in [
            "http://127.0.0.1:9000/done",
            "http://[::1]:9000/",
            "http://localhost:9000/done",
            "http://agent.localhost./",
        ] {
            assert!(check_callback(url, &config(true)).is_ok(), "{url}");
            assert!(check_callback(url, &config(false)).is_err(), "{url}");
            assert!(check(url).is_err(), "{url}");
        }
        for bad in [
            "http://10.0.0.1/",
            "file://127.0.0.1/x",
            "httpx://127.0.0.1/x",
            "http://user@127.0.0.1/",
            "http://self/",
            "http://self.alt/",
            "http://poller.spin.internal/",
            "http://printer.local/",
            "http://intranet/",
        ] {
            assert!(check_callback(bad, &config(true)).is_err(), "{bad}");
        }
        assert!(check_callback("https://agent.example.com/done", &config(true)).is_ok());
    }

    #[test]
    fn no_callback_leads_to_an_internal_route_of_this_server() {
        for (url, development, may) in [
            ("http://127.0.0.1:8787/internal/drain", true, false),
            ("http://localhost:3000/internal/poll", true, false),
            ("http://127.0.0.1:8787//INTERNAL/drain", true, false),
            ("http://127.0.0.1:8787/x/../internal", true, false),
            ("http://127.0.0.1:8787/%69nternal/drain", true, false),
            ("http://127.0.0.1:8787/%2569nternal/drain", true, false),
            ("http://127.0.0.1:8787/x%2f..%2finternal", true, false),
            ("http://127.0.0.1:9000/done", true, true),
            ("http://127.0.0.1:9000/well%20done/%C3%A4", true, true),
            ("https://canvas.example/internal/drain", false, false),
            ("https://canvas.example:444/internal/drain", false, false),
            ("https://CANVAS.example./internal/drain", false, false),
            ("https://canvas.example/hooks", false, true),
            ("https://agent.example/internal/hook", false, true),
        ] {
            let checked = check_callback(url, &config(development));
            assert_eq!(checked.is_ok(), may, "{url}: {checked:?}");
        }
    }
}
