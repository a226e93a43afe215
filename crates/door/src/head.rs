//! A request without its body.

use auth::{Credentials, origins::Page};
use platform::{Config, config::PUBLIC_URL, networks};
use problem::Problem;
use url::Url;

use crate::Tag;

/// The header in which the relay names the address of the client.
const CLIENT: &str = "x-loro-internal-client";

/// The parameter in which a page names its origin, so that it can ask why its upgrade was refused. A browser sends the
/// header `Origin` with an upgrade, but not with a plain request to a server that it takes for the page's own.
const ORIGIN: &str = "origin";

/// The method, address and headers of a request.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The method, in capitals.
    pub(crate) method: String,
    path: String,
    query: Vec<(String, String)>,
    /// The headers, with names in lower case.
    headers: Vec<(String, Vec<u8>)>,
    /// The name and port to which the request itself is addressed, as the host reports them.
    authority: Option<String>,
}

impl Head {
    /// Makes a head from its parts: the method in capitals, the path with its query, the headers, and the name and port
    /// to which the request itself is addressed, as the host reports them.
    pub fn new(
        method: &str,
        path_and_query: &str,
        headers: Vec<(String, Vec<u8>)>,
        authority: Option<String>,
    ) -> Self {
        let (path, query) = path_and_query
            .split_once('?')
            .unwrap_or((path_and_query, ""));
        let lower = |(name, value): (String, Vec<u8>)| (name.to_ascii_lowercase(), value);
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            headers: headers.into_iter().map(lower).collect(),
            authority,
        }
    }

    /// The path as it came, percent-encoded and without the query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns whether the path leads to the internal routes.
    pub(crate) fn is_internal(&self) -> bool {
        self.path == "/internal" || self.path.starts_with("/internal/")
    }

    /// Returns whether the client asks only for the head of the answer (HEAD).
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Returns whether a relay has passed the request on, or asks on behalf of a client whose request it holds.
    pub fn is_from_relay(&self) -> bool {
        self.header(CLIENT).is_some()
    }

    /// The first parameter of this name in the query, percent-decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// The number of rows that the client asks for in the parameter `limit`; `default` if it asks for none.
    ///
    /// # Errors
    /// 400 if it is not a whole number from 1 to `most`.
    pub fn limit(&self, default: u64, most: u64) -> Result<u64, Problem> {
        let given = self.parameter("limit").filter(|given| !given.is_empty());
        match given.map(str::parse) {
            None => Ok(default),
            Some(Ok(limit)) if (1..=most).contains(&limit) => Ok(limit),
            Some(_) => {
                let words = format!("`limit` is a whole number from 1 to {most}.");
                Err(Problem::bad_request(words))
            }
        }
    }

    /// The first header of this name, in lower case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }

    /// Joins all headers of this name into one, as HTTP allows; `None` if there is none.
    fn joined(&self, name: &str, separator: &str) -> Option<String> {
        let texts: Vec<&str> = self.texts(name).collect();
        (!texts.is_empty()).then(|| texts.join(separator))
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(key, _)| key == name);
        named.filter_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Returns whether the client has the representation of this tag already (`If-None-Match`).
    pub fn knows(&self, tag: &Tag) -> bool {
        self.joined("if-none-match", ",")
            .is_some_and(|header| tag.is_in(&header))
    }

    /// The length that the request declares for its body, in bytes.
    pub(crate) fn content_length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }

    /// The caller's credentials.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(
            self.joined("cookie", "; "),
            self.header("authorization"),
            self.parameter("token").map(str::to_owned),
        )
        .of_client(self.header(CLIENT).map(str::to_owned))
    }

    /// The address by which the caller reached the server, without a slash at its end.
    ///
    /// It is `public_url` if the caller used that name, because only the setting knows the path and the scheme of a
    /// proxy. It is also `public_url` if the caller named no place, or a local place although `public_url` is not
    /// local, because a proxy may have changed the name. For any other name it is the address in the headers, below the
    /// path that a proxy reports, or else below that of `public_url` if the caller came to the same port or through a
    /// trusted proxy.
    pub(crate) fn base(&self, config: &dyn Config) -> String {
        let public = config.get(PUBLIC_URL).unwrap_or_default();
        let public = public.trim_end_matches('/');
        let here = |name| self.header(name).filter(|value| !value.is_empty());
        let Some(host) = self.reached().filter(|host| !host.is_empty()) else {
            return public.to_owned();
        };
        let scheme = here("x-forwarded-proto").filter(|scheme| *scheme == "https");
        let reached = Url::parse(&format!("{}://{host}", scheme.unwrap_or("http")));
        let (Ok(reached), Ok(known)) = (reached, Url::parse(public)) else {
            return public.to_owned();
        };
        let is_known = reached.host() == known.host()
            && (known.scheme() == "https" || reached.port() == known.port());
        let is_nowhere = reached.host_str().is_none_or(networks::is_unspecified_host);
        if is_known || is_nowhere || (is_local(&reached) && !is_local(&known)) {
            return public.to_owned();
        }
        let hops = here("x-forwarded-for").map_or(0, |hops| hops.split(',').count());
        let is_by_the_proxy = hops > 1 || reached.port() == known.port();
        let prefix = match here("x-forwarded-prefix") {
            Some(prefix) => prefix,
            None if is_by_the_proxy => known.path(),
            None => "",
        };
        let prefix = prefix.trim_end_matches('/');
        let is_path = prefix.starts_with('/') && !prefix.starts_with("//");
        let origin = reached.origin().ascii_serialization();
        format!("{origin}{}", if is_path { prefix } else { "" })
    }

    /// The name, and port, under which the caller reached the server. Behind a relay only the name that the relay
    /// reports counts, because the others may be the app's own address.
    fn reached(&self) -> Option<&str> {
        let forwarded = self.header("x-forwarded-host");
        if self.header(CLIENT).is_some() {
            return forwarded;
        }
        forwarded
            .filter(|host| !host.is_empty())
            .or_else(|| self.header("host"))
            .or(self.authority.as_deref())
    }

    /// The page that sent the request, as far as the headers describe it.
    pub(crate) fn page(&self) -> Page {
        let owned = |name| self.header(name).map(str::to_owned);
        let reached = owned("host").or_else(|| self.authority.clone());
        Page {
            origin: owned("origin").or_else(|| self.parameter(ORIGIN).map(origin_of)),
            site: owned("sec-fetch-site"),
            host: owned("x-forwarded-host").or_else(|| reached.clone()),
            reached,
        }
    }
}

/// The origin of an address, as a browser writes it.
fn origin_of(address: &str) -> String {
    let origin = Url::parse(address).map(|url| url.origin().ascii_serialization());
    origin.unwrap_or_else(|_| "null".into())
}

fn is_local(url: &Url) -> bool {
    url.host_str().is_none_or(networks::is_local_host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn an_answer_has_the_address_by_which_its_caller_came() {
        let forwarded = [
            ("host", "127.0.0.1:3000"),
            ("x-forwarded-host", "h.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/canvas/"),
        ];
        let local = "http://127.0.0.1:8787";
        let relay = ("x-loro-internal-client", "10.0.0.1");
        for (public, headers, base) in [
            (local, &[("host", "127.0.0.1:8787")][..], local),
            (
                local,
                &[("host", "localhost:8787")],
                "http://localhost:8787",
            ),
            (
                local,
                &[("host", "127.0.0.1:9999")],
                "http://127.0.0.1:9999",
            ),
            (
                local,
                &[("host", "192.168.1.5:8787")],
                "http://192.168.1.5:8787",
            ),
            (
                local,
                &[("host", "my-mac.local:8787")],
                "http://my-mac.local:8787",
            ),
            (local, &forwarded, "https://h.example/canvas"),
            (local, &[("host", "not a host")], local),
            (local, &[("host", "")], local),
            (local, &[("host", "0.0.0.0:8787")], local),
            (local, &[("host", "[::]:8787")], local),
            (local, &[("host", "127.0.0.1:3000"), relay], local),
            (
                local,
                &[("host", "127.0.0.1:3000"), relay, ("x-forwarded-host", "")],
                local,
            ),
            // The same proxy by another name.
            (
                "http://127.0.0.1:9000/canvas",
                &[("host", "localhost:9000")],
                "http://localhost:9000/canvas",
            ),
            (
                "http://127.0.0.1:9000/canvas",
                &[("host", "localhost:8787")],
                "http://localhost:8787",
            ),
            (
                "https://h.example/canvas",
                &[
                    ("host", "box.lan:8443"),
                    ("x-forwarded-for", "10.0.0.2, 10.0.0.1"),
                    ("x-forwarded-proto", "https"),
                ],
                "https://box.lan:8443/canvas",
            ),
            // A client that came without a proxy used another port.
            (
                "https://h.example/canvas",
                &[("host", "box.lan:8443"), ("x-forwarded-for", "10.0.0.2")],
                "http://box.lan:8443",
            ),
            (
                "https://h.example/c/",
                &[("host", "h.example")],
                "https://h.example/c",
            ),
            // A proxy before this server may listen on another port.
            (
                "https://h.example/c",
                &[("host", "h.example:8443")],
                "https://h.example/c",
            ),
            (
                "http://h.example:8787/c",
                &[("host", "h.example:8787")],
                "http://h.example:8787/c",
            ),
            (
                "http://h.example:8787/c",
                &[("host", "h.example:3000")],
                "http://h.example:3000",
            ),
            (
                "https://h.example/c",
                &[("host", "127.0.0.1:8787")],
                "https://h.example/c",
            ),
            (
                "https://h.example/c",
                &[("host", "other.example:8787")],
                "http://other.example:8787",
            ),
            (
                "https://h.example/c",
                &[("host", "other.example")],
                "http://other.example/c",
            ),
            (
                "https://h.example/c",
                &[("host", "backend")],
                "https://h.example/c",
            ),
            ("https://h.example/c", &forwarded, "https://h.example/c"),
        ] {
            let config = MapConfig::from_pairs(&[("public_url", public)]);
            assert_eq!(
                head(headers, None).base(&config),
                base,
                "{headers:?} of {public}"
            );
        }
    }

    #[test]
    fn a_prefix_is_a_path_of_this_server() {
        for (prefix, base) in [
            ("/canvas", "http://h.example/canvas"),
            ("/canvas/", "http://h.example/canvas"),
            ("canvas", "http://h.example"),
            ("//evil.example", "http://h.example"),
            ("", "http://h.example"),
        ] {
            let headers = [
                ("x-forwarded-host", "h.example"),
                ("x-forwarded-prefix", prefix),
            ];
            let config = MapConfig::from_pairs(&[("public_url", "http://127.0.0.1:8787")]);
            assert_eq!(head(&headers, None).base(&config), base, "{prefix:?}");
        }
    }

    #[test]
    fn a_relay_names_the_client() {
        let named = [("x-loro-internal-client", "10.0.0.1")];
        assert!(head(&named, None).is_from_relay());
        assert!(!head(&[("x-forwarded-for", "10.0.0.1")], None).is_from_relay());
    }

    #[test]
    fn a_limit_is_a_number_of_rows() {
        for (query, expected) in [
            ("", Some(50)),
            ("?limit=", Some(50)),
            ("?limit=1", Some(1)),
            ("?limit=200", Some(200)),
            ("?limit=0", None),
            ("?limit=201", None),
            ("?limit=-1", None),
            ("?limit=many", None),
        ] {
            let head = Head::new("GET", &format!("/tasks{query}"), vec![], None);
            assert_eq!(head.limit(50, 200).ok(), expected, "{query}");
        }
    }

    fn head(headers: &[(&str, &str)], authority: Option<&str>) -> Head {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        let headers = headers.iter().map(owned).collect();
        Head::new(
            "GET",
            "/sync/a%20b?x=1%2B1&token=t&x=2",
            headers,
            authority.map(str::to_owned),
        )
    }

    #[test]
    fn the_address_is_taken_apart() {
        let head = head(&[], None);
        assert_eq!(head.path(), "/sync/a%20b");
        assert_eq!(head.parameter("x"), Some("1+1"));
        assert_eq!(head.parameter("y"), None);
        assert_eq!(head.credentials().bearer.as_deref(), Some("t"));
        let plain = Head::new("GET", "/health", vec![], None);
        assert_eq!((plain.path(), plain.parameter("")), ("/health", None));
    }

    #[test]
    fn headers_are_found_by_their_names() {
        let head = head(
            &[
                ("Cookie", "a=1"),
                ("cookie", "b=2"),
                ("If-None-Match", "\"x\""),
                ("if-none-match", "\"y\""),
                ("content-length", "12"),
                ("AUTHORIZATION", "Bearer b"),
            ],
            None,
        );
        let credentials = head.credentials();
        assert_eq!(credentials.cookie.as_deref(), Some("a=1; b=2"));
        assert_eq!(credentials.bearer.as_deref(), Some("b"));
        assert_eq!(head.header("cookie"), Some("a=1"));
        assert!(head.knows(&Tag::new("x")) && head.knows(&Tag::new("y")));
        assert!(!head.knows(&Tag::new("z")));
        assert_eq!(head.content_length(), Some(12));
        let broken = Head::new("GET", "/", vec![("a".into(), vec![0xff])], None);
        assert_eq!(broken.header("a"), None);
        assert!(!broken.knows(&Tag::new("x")));
    }

    #[test]
    fn a_page_is_known_by_its_headers() {
        let plain = head(&[], Some("127.0.0.1:3000")).page();
        let reached = Some("127.0.0.1:3000".to_owned());
        assert_eq!((plain.host, plain.reached), (reached.clone(), reached));
        let page = head(
            &[
                ("host", "canvas.example"),
                ("x-forwarded-host", "public.example"),
                ("origin", "https://o.example"),
                ("sec-fetch-site", "same-site"),
            ],
            Some("127.0.0.1:3000"),
        )
        .page();
        for (query, origin) in [
            ("?origin=HTTP://O.example:80/", Some("http://o.example")),
            ("?origin=a%0d%0ab", Some("null")),
            ("", None),
        ] {
            let head = Head::new("GET", &format!("/sync/p{query}"), vec![], None);
            assert_eq!(head.page().origin.as_deref(), origin, "{query}");
        }
        assert_eq!(page.host.as_deref(), Some("public.example"));
        assert_eq!(page.reached.as_deref(), Some("canvas.example"));
        assert_eq!(page.origin.as_deref(), Some("https://o.example"));
        assert_eq!(page.site.as_deref(), Some("same-site"));
    }
}
