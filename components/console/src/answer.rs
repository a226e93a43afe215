//! What to answer to a request.

use std::borrow::Cow;

use crate::{encoding::accepted, page::File};

/// Headers of every answer.
///
/// The policy allows what the page needs and no more: its own scripts, styles and Wasm, sockets of the same origin, and
/// the pictures and films of the board, which may come from anywhere.
const SECURITY: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data: blob: http: https:; media-src 'self' data: blob: http: https:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=()",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

/// The part of a request that matters here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path as it came, without the query; still percent-encoded.
    pub path: &'a str,
    /// The header `Accept-Encoding`.
    pub accept_encoding: Option<&'a str>,
    /// The header `If-None-Match`.
    pub if_none_match: Option<&'a str>,
}

/// An answer, which the trigger sends as it is.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// All headers, with names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty if the protocol allows none.
    pub body: Cow<'static, [u8]>,
}

/// Answers a request for a file of `page`: 200 or 304, 404 if there is no such file, 405 for other methods than GET
/// and HEAD.
pub fn answer(query: &Query<'_>, page: &'static [File]) -> Answer {
    if !matches!(query.method, "GET" | "HEAD") {
        let mut answer = problem(
            405,
            "method-not-allowed",
            "Method not allowed",
            "Files can be read only.",
        );
        answer.headers.push(("allow", "GET, HEAD".to_owned()));
        return answer;
    }
    let mut answer = match File::find(page, query.path) {
        Some(file) => serve(file, query),
        None if page.is_empty() => not_found("The page has not been built."),
        None => not_found("There is nothing at this path."),
    };
    if query.method == "HEAD" {
        // The host takes a body's length from what is sent, and nothing is sent.
        answer.body = Cow::Borrowed(&[]);
        answer.headers.retain(|(name, _)| *name != "content-length");
    }
    answer
}

/// The best copy of a file for this client, or 304 if the client has that copy already.
fn serve(file: &'static File, query: &Query<'_>) -> Answer {
    let compressed = accepted(query.accept_encoding)
        .find_map(|encoding| Some((Some(encoding), file.copy_in(encoding)?)));
    let (encoding, copy) = compressed.unwrap_or((None, &file.plain));
    let kept = if file.immutable {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut headers = secured();
    headers.extend([
        ("cache-control", kept.to_owned()),
        ("etag", copy.entity_tag.to_owned()),
        ("vary", "accept-encoding".to_owned()),
    ]);
    if is_listed(query.if_none_match, copy.entity_tag) {
        return Answer {
            status: 304,
            headers,
            body: Cow::Borrowed(&[]),
        };
    }
    headers.extend([
        ("content-type", file.media_type.to_owned()),
        ("content-length", copy.bytes.len().to_string()),
    ]);
    if let Some(encoding) = encoding {
        headers.push(("content-encoding", encoding.token().to_owned()));
    }
    Answer {
        status: 200,
        headers,
        body: Cow::Borrowed(copy.bytes),
    }
}

/// Whether an `If-None-Match` header lists the tag. Weak tags match too, as RFC 9110 has it for this header.
fn is_listed(if_none_match: Option<&str>, tag: &str) -> bool {
    if_none_match.is_some_and(|header| {
        header
            .split(',')
            .map(str::trim)
            .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
    })
}

fn not_found(detail: &str) -> Answer {
    problem(404, "not-found", "Not found", detail)
}

/// An error as problem+json. The words are constants here and need no escaping.
fn problem(status: u16, kind: &str, title: &str, detail: &str) -> Answer {
    let body = format!(
        r#"{{"type":"urn:loro-sync:problem:{kind}","title":"{title}","status":{status},"detail":"{detail}"}}"#
    );
    let mut headers = secured();
    headers.extend([
        ("cache-control", "no-store".to_owned()),
        ("content-type", "application/problem+json".to_owned()),
        ("content-length", body.len().to_string()),
    ]);
    Answer {
        status,
        headers,
        body: Cow::Owned(body.into_bytes()),
    }
}

fn secured() -> Vec<(&'static str, String)> {
    SECURITY
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Representation;

    const fn copy(entity_tag: &'static str, bytes: &'static [u8]) -> Representation {
        Representation { entity_tag, bytes }
    }

    /// A page, a script with both compressed copies, and a picture with none.
    static FILES: &[File] = &[
        File {
            path: "index.html",
            media_type: "text/html; charset=utf-8",
            immutable: false,
            plain: copy("\"0123\"", b"<html>"),
            brotli: None,
            gzip: None,
        },
        File {
            path: "static/page-1.js",
            media_type: "text/javascript; charset=utf-8",
            immutable: true,
            plain: copy("\"page-1.js\"", b"plain script"),
            brotli: Some(copy("\"page-1.js-br\"", b"br")),
            gzip: Some(copy("\"page-1.js-gz\"", b"gzip")),
        },
        File {
            path: "static/dot-1.png",
            media_type: "image/png",
            immutable: true,
            plain: copy("\"dot-1.png\"", b"dot"),
            brotli: None,
            gzip: None,
        },
    ];

    fn get<'a>(path: &'a str, accept_encoding: &'a str) -> Query<'a> {
        Query {
            method: "GET",
            path,
            accept_encoding: Some(accept_encoding),
            if_none_match: None,
        }
    }

    fn header<'a>(answer: &'a Answer, wanted: &str) -> Option<&'a str> {
        let mut found = answer.headers.iter().filter(|(name, _)| *name == wanted);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{wanted} is there once");
        value
    }

    #[test]
    fn the_best_copy_is_served() {
        let cases = [
            ("/", "br, gzip", None, "<html>", "no-cache"),
            (
                "/static/page-1.js",
                "br, gzip",
                Some("br"),
                "br",
                "public, max-age=31536000, immutable",
            ),
            (
                "/static/page-1.js",
                "gzip",
                Some("gzip"),
                "gzip",
                "public, max-age=31536000, immutable",
            ),
            (
                "/static/page-1.js",
                "identity",
                None,
                "plain script",
                "public, max-age=31536000, immutable",
            ),
            (
                "/static/dot-1.png",
                "br, gzip",
                None,
                "dot",
                "public, max-age=31536000, immutable",
            ),
        ];
        for (path, accepted, encoding, body, kept) in cases {
            let answer = answer(&get(path, accepted), FILES);
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(&*answer.body, body.as_bytes(), "{path} {accepted}");
            assert_eq!(header(&answer, "content-encoding"), encoding);
            assert_eq!(header(&answer, "cache-control"), Some(kept));
            assert_eq!(
                header(&answer, "content-length"),
                Some(body.len().to_string().as_str())
            );
            assert_eq!(header(&answer, "vary"), Some("accept-encoding"));
        }
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        for (path, accepted) in [
            ("/", ""),
            ("/static/page-1.js", "br"),
            ("/static/page-1.js", ""),
        ] {
            let first = answer(&get(path, accepted), FILES);
            let tag = header(&first, "etag").unwrap();
            let query = Query {
                if_none_match: Some(tag),
                ..get(path, accepted)
            };
            let second = answer(&query, FILES);
            assert_eq!((second.status, second.body.len()), (304, 0), "{path}");
            assert_eq!(header(&second, "etag"), Some(tag));
            assert_eq!(
                header(&second, "cache-control"),
                header(&first, "cache-control")
            );
            assert_eq!(header(&second, "content-length"), None);
        }
        // The tag of one copy is none for another.
        let compressed = answer(&get("/static/page-1.js", "br"), FILES);
        let query = Query {
            if_none_match: header(&compressed, "etag"),
            ..get("/static/page-1.js", "")
        };
        assert_eq!(answer(&query, FILES).status, 200);
    }

    #[test]
    fn head_is_get_without_the_body() {
        let query = Query {
            method: "HEAD",
            ..get("/static/page-1.js", "br")
        };
        let head = answer(&query, FILES);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(header(&head, "content-length"), None);
        assert_eq!(header(&head, "content-encoding"), Some("br"));
        assert_eq!(
            header(&head, "etag"),
            header(&answer(&get("/static/page-1.js", "br"), FILES), "etag")
        );
    }

    #[test]
    fn errors_are_problems() {
        let cases = [
            ("GET", "/nothing", 404, "not-found"),
            ("GET", "/static/nothing.js", 404, "not-found"),
            ("GET", "/../etc/passwd", 404, "not-found"),
            ("POST", "/", 405, "method-not-allowed"),
            ("get", "/", 405, "method-not-allowed"),
        ];
        for (method, path, status, kind) in cases {
            let answer = answer(
                &Query {
                    method,
                    path,
                    ..Query::default()
                },
                FILES,
            );
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(
                header(&answer, "content-type"),
                Some("application/problem+json")
            );
            let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(problem["type"], format!("urn:loro-sync:problem:{kind}"));
            assert_eq!(problem["status"], status);
            assert!(problem["title"].is_string() && problem["detail"].is_string());
        }
        let answer = answer(
            &Query {
                method: "PUT",
                path: "/",
                ..Query::default()
            },
            FILES,
        );
        assert_eq!(header(&answer, "allow"), Some("GET, HEAD"));
    }

    #[test]
    fn only_the_names_of_files_lead_to_files() {
        assert_eq!(answer(&get("/index.html", ""), FILES).status, 200);
        for path in [
            "",
            "index.html",
            "//index.html",
            "/../index.html",
            "/static",
            "/static/",
            "/static/../index.html",
            "/static/./page-1.js",
            "/static//page-1.js",
            // The compressed copies are found by negotiation only.
            "/static/page-1.js.br",
            "/%2e%2e/index.html",
            "/..%2findex.html",
            "/a\\..\\index.html",
            "/a\0.html",
            "/ä.html",
        ] {
            assert_eq!(answer(&get(path, ""), FILES).status, 404, "{path:?}");
        }
    }

    #[test]
    fn a_page_that_has_not_been_built_is_a_404_that_says_so() {
        let answer = answer(&get("/", ""), &[]);
        assert_eq!(answer.status, 404);
        let body = String::from_utf8_lossy(&answer.body);
        assert!(body.contains("The page has not been built"), "{body}");
    }

    #[test]
    fn tags_are_found_in_a_list() {
        for (header, expected) in [
            (None, false),
            (Some("\"a\""), true),
            (Some("W/\"a\""), true),
            (Some("\"b\" , \"a\""), true),
            (Some("*"), true),
            (Some("\"ab\""), false),
            (Some("a"), false),
            (Some(""), false),
        ] {
            assert_eq!(is_listed(header, "\"a\""), expected, "{header:?}");
        }
    }

    #[test]
    fn every_answer_is_guarded() {
        for path in ["/", "/static/page-1.js", "/nothing"] {
            let answer = answer(&get(path, ""), FILES);
            let policy = header(&answer, "content-security-policy").unwrap();
            assert!(
                policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"),
                "{policy}"
            );
            assert!(!policy.contains("  "), "one line, single spaces: {policy}");
            assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        }
    }
}
