//! The answer to a request for a file of the page.

use door::{Head, Headers, Reply, Tag};
use problem::{Kind, Problem};

use crate::{encoding::accepted, page::File};

/// The headers of every answer.
///
/// The policy allows only what the page needs: its own scripts, styles and Wasm, sockets of the same origin, and
/// the pictures and films of the board, which may come from anywhere.
pub const SECURITY: Headers = &[
    // A file is the same for every page, so the relay keeps one copy for all of them.
    ("access-control-allow-origin", "*"),
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

/// Answers a request for a file of `page`: 200 or 304, or 404 if there is no such file.
pub fn answer(head: &Head, page: &'static [File]) -> Reply<'static> {
    match File::find(page, head.path()) {
        Some(file) => serve(file, head),
        None if page.is_empty() => not_found("The page has not been built."),
        None => not_found("There is nothing at this address."),
    }
}

/// Answers with the best copy of a file for this client, or with 304 if the client has that copy already.
fn serve(file: &'static File, head: &Head) -> Reply<'static> {
    let compressed = accepted(head.header("accept-encoding"))
        .find_map(|encoding| Some((Some(encoding), file.copy_in(encoding)?)));
    let (encoding, copy) = compressed.unwrap_or((None, &file.plain));
    let tag = Tag::new(copy.tag);
    let reply = if head.knows(&tag) {
        Reply::not_modified(&tag)
    } else {
        let reply = Reply::new(200).tag(&tag).media_type(file.media_type);
        let reply = match encoding {
            Some(encoding) => reply.header("content-encoding", encoding.token()),
            None => reply,
        };
        reply.body(copy.bytes)
    };
    let kept = if file.immutable {
        "public, max-age=31536000, immutable"
    } else {
        "public, no-cache"
    };
    reply
        .header("cache-control", kept)
        .header("vary", "accept-encoding")
}

fn not_found(detail: &str) -> Reply<'static> {
    Problem::new(Kind::NOT_FOUND, detail).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Representation;

    const fn copy(tag: &'static str, bytes: &'static [u8]) -> Representation {
        Representation { tag, bytes }
    }

    /// A page, a script with both compressed copies, and a picture with none.
    static FILES: &[File] = &[
        File {
            path: "index.html",
            media_type: "text/html; charset=utf-8",
            immutable: false,
            plain: copy("0123", b"<html>"),
            brotli: None,
            gzip: None,
        },
        File {
            path: "static/page-1.js",
            media_type: "text/javascript; charset=utf-8",
            immutable: true,
            plain: copy("page-1.js", b"plain script"),
            brotli: Some(copy("page-1.js-br", b"br")),
            gzip: Some(copy("page-1.js-gz", b"gzip")),
        },
        File {
            path: "static/dot-1.png",
            media_type: "image/png",
            immutable: true,
            plain: copy("dot-1.png", b"dot"),
            brotli: None,
            gzip: None,
        },
    ];

    fn get(path: &str, accept_encoding: &str, if_none_match: Option<&str>) -> Reply<'static> {
        let mut headers = vec![("accept-encoding".to_owned(), accept_encoding.into())];
        headers.extend(if_none_match.map(|tag| ("if-none-match".to_owned(), tag.into())));
        answer(&Head::new("GET", path, headers, None), FILES)
    }

    fn header<'a>(reply: &'a Reply<'_>, wanted: &str) -> Option<&'a str> {
        let mut found = reply.headers().filter(|(name, _)| *name == wanted);
        let value = found.next().map(|(_, value)| value);
        assert!(found.next().is_none(), "{wanted} is there once");
        value
    }

    fn body<'a>(reply: &'a Reply<'_>) -> &'a [u8] {
        reply.content().unwrap_or_default()
    }

    #[test]
    fn the_best_copy_is_served() {
        let cases = [
            ("/", "br, gzip", None, "<html>", "public, no-cache"),
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
        for (path, accepted, encoding, expected, kept) in cases {
            let answer = get(path, accepted, None);
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(body(&answer), expected.as_bytes(), "{path} {accepted}");
            assert_eq!(header(&answer, "content-encoding"), encoding);
            assert_eq!(header(&answer, "cache-control"), Some(kept));
            assert_eq!(header(&answer, "vary"), Some("accept-encoding"));
        }
    }

    #[test]
    fn a_copy_that_the_browser_has_is_not_sent_again() {
        for (path, accepted) in [
            ("/", ""),
            ("/static/page-1.js", "br"),
            ("/static/page-1.js", ""),
        ] {
            let first = get(path, accepted, None);
            let tag = header(&first, "etag").unwrap();
            let second = get(path, accepted, Some(tag));
            assert_eq!((second.status(), second.content()), (304, None), "{path}");
            assert_eq!(header(&second, "etag"), Some(tag));
            assert_eq!(
                header(&second, "cache-control"),
                header(&first, "cache-control")
            );
        }
        // The tag of one copy does not fit another.
        let compressed = get("/static/page-1.js", "br", None);
        let plain = get("/static/page-1.js", "", header(&compressed, "etag"));
        assert_eq!(plain.status(), 200);
    }

    #[test]
    fn only_the_names_of_files_lead_to_files() {
        assert_eq!(get("/index.html", "", None).status(), 200);
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
            assert_eq!(get(path, "", None).status(), 404, "{path:?}");
        }
    }

    #[test]
    fn a_page_that_has_not_been_built_is_a_404_that_says_so() {
        let answer = answer(&Head::new("GET", "/", vec![], None), &[]);
        assert_eq!(answer.status(), 404);
        let body = String::from_utf8_lossy(body(&answer));
        assert!(body.contains("The page has not been built"), "{body}");
    }

    #[test]
    fn the_policy_allows_no_inline_script() {
        let policy = SECURITY
            .iter()
            .find(|(name, _)| *name == "content-security-policy");
        let (_, policy) = policy.unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"),
            "{policy}"
        );
        assert!(!policy.contains("  "), "one line, single spaces: {policy}");
    }
}
