//! The names by which the relay keeps files of the page, so that each way to ask for a file finds the same copy.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri, header};

/// The longest path of a file that is kept, in bytes.
const MAX_PATH: usize = 256;

/// Returns whether a path is that of a file of the page.
pub(crate) fn is_of_the_page(path: &str) -> bool {
    path == "/" || path.starts_with("/static/")
}

/// Removes from a request for a file of the page everything that does not change the file: the query, the origin of the
/// page that asks, ranges, which a server need not honour, and all encodings except the two of which copies are kept.
/// So each way to ask for the file finds the same copy.
pub(crate) fn simplify(head: &mut Parts) {
    if ![Method::GET, Method::HEAD].contains(&head.method) || !is_of_the_page(head.uri.path()) {
        return;
    }
    let accepted = accepted(&head.headers);
    let copies = ["br", "gzip"].into_iter();
    let copies: Vec<&str> = copies.filter(|name| takes(&accepted, name)).collect();
    for name in [
        header::ORIGIN,
        header::RANGE,
        header::IF_RANGE,
        header::ACCEPT_ENCODING,
    ] {
        head.headers.remove(name);
    }
    if let Ok(copies) = HeaderValue::from_str(&copies.join(", "))
        && !copies.is_empty()
    {
        head.headers.insert(header::ACCEPT_ENCODING, copies);
    }
    let mut target = head.uri.clone().into_parts();
    target.path_and_query = head.uri.path().parse().ok();
    if let Ok(target) = Uri::from_parts(target) {
        head.uri = target;
    }
}

/// The key of a file: its path, and the encodings that the client accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) path: String,
    brotli: bool,
    gzip: bool,
}

impl Key {
    /// The file for which a request may ask; `None` if it must go to the app in any case.
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        let path = head.uri.path();
        let is_plain = [Method::GET, Method::HEAD].contains(&head.method)
            && head.uri.query().is_none()
            && path.len() <= MAX_PATH
            && !head.headers.contains_key(header::RANGE)
            // The app may answer a page of another origin with other headers.
            && !head.headers.contains_key(header::ORIGIN);
        if !is_plain {
            return None;
        }
        let accepted = accepted(&head.headers);
        // A client that takes no plain file is rare, and `*` means any encoding.
        let is_usual = accepted
            .iter()
            .all(|(name, takes)| name != "*" && (name != "identity" || *takes));
        is_usual.then(|| Self {
            path: path.to_owned(),
            brotli: takes(&accepted, "br"),
            gzip: takes(&accepted, "gzip"),
        })
    }
}

/// The encodings that a request names, and whether it accepts each.
fn accepted(headers: &HeaderMap) -> Vec<(String, bool)> {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(encoding)
        .collect()
}

fn takes(accepted: &[(String, bool)], wanted: &str) -> bool {
    accepted
        .iter()
        .any(|(name, takes)| name == wanted && *takes)
}

/// Reads the name of an encoding, and whether it is accepted.
fn encoding(text: &str) -> (String, bool) {
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let quality = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok());
    (name, quality != Some(0.0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use http::Request;

    /// The head of a GET request.
    pub(crate) fn head(path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn encodings_make_few_keys() {
        let of = |accepts: &str| Key::of(&head("/a", &[("accept-encoding", accepts)]));
        assert_eq!(of("gzip, deflate, br"), of("BR;q=0.5,gzip, x"));
        assert_ne!(of("gzip, br;q=0"), of("gzip, br"));
        assert_eq!(of("zstd"), of(""));
        for unusual in ["*", "identity;q=0"] {
            assert_eq!(of(unusual), None);
        }
        assert_eq!(Key::of(&head("/a?b", &[])), None);
        assert_eq!(Key::of(&head("/a", &[("range", "bytes=0-1")])), None);
        assert_eq!(
            Key::of(&head("/a", &[("origin", "https://a.example")])),
            None
        );
    }

    #[test]
    fn a_file_of_the_page_is_the_same_however_it_is_asked_for() {
        let of = |path: &str, headers: &[(&str, &str)]| {
            let mut head = head(path, headers);
            simplify(&mut head);
            (head.uri.to_string(), Key::of(&head))
        };
        let plain = of("/static/a", &[]);
        assert!(plain.1.is_some());
        assert_eq!(of("/static/a?b1", &[]), plain);
        for (name, value) in [
            ("range", "bytes=0-1"),
            ("origin", "https://a.example"),
            ("accept-encoding", "*"),
            ("accept-encoding", "identity;q=0, br;q=0"),
        ] {
            assert_eq!(
                of("/static/a?b", &[(name, value)]),
                plain,
                "{name}: {value}"
            );
        }
        let compressed = of("/static/a", &[("accept-encoding", "gzip, br")]);
        assert_ne!(compressed, plain);
        let also = of("/static/a?b", &[("accept-encoding", "br, *, zstd, gzip")]);
        assert_eq!(also, compressed);
        assert_eq!(of("http://x.example/?a", &[]).0, "http://x.example/");
        // What is not of the page goes to the app as it came.
        assert_eq!(of("/assets/a?b", &[]), ("/assets/a?b".to_owned(), None));
    }
}
