//! What to answer to a request.

use std::io;

use crate::{
    asset::Asset,
    encoding::{Encoding, accepted},
    validator::{entity_tag, matches},
};

/// Headers of every answer.
///
/// The policy allows what the page needs and no more: its own scripts, styles and Wasm; sockets of the
/// same origin; and the pictures and films of the board, which may come from anywhere.
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

/// An answer: for the trigger to send as it is.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// All headers, with names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty where the protocol wants none.
    pub body: Vec<u8>,
}

/// Reads a file by its path below the page's folder; `None` if there is no such file.
pub type Read<'a> = &'a dyn Fn(&str) -> io::Result<Option<Vec<u8>>>;

/// Answers a request for a file of the page: 200 or 304, 404 if there is no such file, 405 for
/// other methods than GET and HEAD, 500 if the file cannot be read.
pub fn answer(query: &Query<'_>, read: Read<'_>) -> Answer {
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
    let mut answer = match Asset::at(query.path).map(|asset| serve(&asset, query, read)) {
        Some(Ok(Some(answer))) => answer,
        Some(Err(_)) => problem(
            500,
            "internal",
            "Internal error",
            "The file cannot be read.",
        ),
        Some(Ok(None)) if query.path == "/" => problem(
            404,
            "not-found",
            "Not found",
            "The page has not been built: components/console/dist is empty.",
        ),
        _ => problem(
            404,
            "not-found",
            "Not found",
            "There is nothing at this path.",
        ),
    };
    if query.method == "HEAD" {
        // The host takes a body's length from what is sent, and none is.
        answer.body.clear();
        answer.headers.retain(|(name, _)| *name != "content-length");
    }
    answer
}

/// The best copy of a file for this client, or word that it has it already.
fn serve(asset: &Asset<'_>, query: &Query<'_>, read: Read<'_>) -> io::Result<Option<Answer>> {
    let Some((encoding, bytes)) = copy(asset, query.accept_encoding, read)? else {
        return Ok(None);
    };
    let tag = entity_tag(asset, encoding, &bytes);
    let unchanged = matches(query.if_none_match, &tag);
    let kept = if asset.immutable {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut headers = secured();
    headers.extend([
        ("cache-control", kept.to_owned()),
        ("etag", tag),
        ("vary", "accept-encoding".to_owned()),
    ]);
    if unchanged {
        return Ok(Some(Answer {
            status: 304,
            headers,
            body: Vec::new(),
        }));
    }
    headers.extend([
        ("content-type", asset.media_type.to_owned()),
        ("content-length", bytes.len().to_string()),
    ]);
    if let Some(encoding) = encoding {
        headers.push(("content-encoding", encoding.token().to_owned()));
    }
    Ok(Some(Answer {
        status: 200,
        headers,
        body: bytes,
    }))
}

/// The first copy that the client takes and the build made, else the file itself.
fn copy(
    asset: &Asset<'_>,
    accept_encoding: Option<&str>,
    read: Read<'_>,
) -> io::Result<Option<(Option<Encoding>, Vec<u8>)>> {
    for encoding in accepted(accept_encoding) {
        if let Some(bytes) = read(&format!("{}.{}", asset.file, encoding.suffix()))? {
            return Ok(Some((Some(encoding), bytes)));
        }
    }
    Ok(read(asset.file)?.map(|bytes| (None, bytes)))
}

/// An error as problem+json. The words are ours and need no escaping.
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
        body: body.into_bytes(),
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

    /// A folder with a page, a script with both compressed copies, and a picture with none.
    fn read(file: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(match file {
            "index.html" => Some(b"<html>".to_vec()),
            "static/page-1.js" => Some(b"plain script".to_vec()),
            "static/page-1.js.br" => Some(b"br".to_vec()),
            "static/page-1.js.gz" => Some(b"gzip".to_vec()),
            "static/dot-1.png" => Some(b"dot".to_vec()),
            "static/broken-1.js" => return Err(io::Error::other("disk on fire")),
            _ => None,
        })
    }

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
            let answer = answer(&get(path, accepted), &read);
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.body, body.as_bytes(), "{path} {accepted}");
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
            let first = answer(&get(path, accepted), &read);
            let tag = header(&first, "etag").unwrap();
            let query = Query {
                if_none_match: Some(tag),
                ..get(path, accepted)
            };
            let second = answer(&query, &read);
            assert_eq!((second.status, second.body.len()), (304, 0), "{path}");
            assert_eq!(header(&second, "etag"), Some(tag));
            assert_eq!(
                header(&second, "cache-control"),
                header(&first, "cache-control")
            );
            assert_eq!(header(&second, "content-length"), None);
        }
        // The tag of one copy is none for another.
        let compressed = answer(&get("/static/page-1.js", "br"), &read);
        let query = Query {
            if_none_match: header(&compressed, "etag"),
            ..get("/static/page-1.js", "")
        };
        assert_eq!(answer(&query, &read).status, 200);
    }

    #[test]
    fn head_is_get_without_the_body() {
        let query = Query {
            method: "HEAD",
            ..get("/static/page-1.js", "br")
        };
        let head = answer(&query, &read);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(header(&head, "content-length"), None);
        assert_eq!(header(&head, "content-encoding"), Some("br"));
        assert_eq!(
            header(&head, "etag"),
            header(&answer(&get("/static/page-1.js", "br"), &read), "etag")
        );
    }

    #[test]
    fn errors_are_problems() {
        let cases = [
            ("GET", "/nothing", 404, "not-found"),
            ("GET", "/static/nothing.js", 404, "not-found"),
            ("GET", "/../etc/passwd", 404, "not-found"),
            ("GET", "/static/broken-1.js", 500, "internal"),
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
                &read,
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
            &read,
        );
        assert_eq!(header(&answer, "allow"), Some("GET, HEAD"));
    }

    #[test]
    fn every_answer_is_guarded() {
        for path in ["/", "/static/page-1.js", "/nothing"] {
            let answer = answer(&get(path, ""), &read);
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
