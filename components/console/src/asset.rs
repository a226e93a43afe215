//! Which file a path names, what it is, and how long a browser may keep it.

/// The folder of files whose names change with their content.
const HASHED: &str = "static/";

/// A file that the page may consist of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset<'a> {
    /// Its path below the mounted folder: never absolute, never upwards.
    pub(crate) file: &'a str,
    pub(crate) media_type: &'static str,
    /// Its content never changes, for another content gets another name.
    pub(crate) immutable: bool,
}

impl<'a> Asset<'a> {
    /// The file for a URL's path; `None` if no file of the page can have that name.
    ///
    /// Names are plain: a path with anything but letters, digits, `-`, `_` and inner dots in it (also when
    /// percent-encoded) names no file, so that none outside of the folder can be reached.
    pub(crate) fn at(path: &'a str) -> Option<Self> {
        let file = match path.strip_prefix('/')? {
            "" => "index.html",
            file => file,
        };
        if !file.split('/').all(is_plain) {
            return None;
        }
        let (_, extension) = file.rsplit_once('.')?;
        Some(Self {
            file,
            media_type: media_type(extension)?,
            immutable: file.starts_with(HASHED),
        })
    }
}

fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain)
}

/// The media type of what the page consists of; anything else is not served.
fn media_type(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "ico" => "image/x-icon",
        "jpg" => "image/jpeg",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_files() {
        let html = "text/html; charset=utf-8";
        let cases = [
            ("/", Some(("index.html", html, false))),
            ("/index.html", Some(("index.html", html, false))),
            (
                "/static/a-1.wasm",
                Some(("static/a-1.wasm", "application/wasm", true)),
            ),
            (
                "/static/a.b_c.js",
                Some(("static/a.b_c.js", "text/javascript; charset=utf-8", true)),
            ),
            ("/static", None),
            ("/static/", None),
            ("/unknown.exe", None),
            // The compressed ones are found by negotiation only.
            ("/index.html.br", None),
        ];
        for (path, expected) in cases {
            let asset = Asset::at(path);
            let found = asset
                .as_ref()
                .map(|asset| (asset.file, asset.media_type, asset.immutable));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in [
            "",
            "index.html",
            "//index.html",
            "/../index.html",
            "/static/../index.html",
            "/static/./a.js",
            "/static//a.js",
            "/.hidden.html",
            "/..html",
            "/%2e%2e/index.html",
            "/..%2findex.html",
            "/a\\..\\index.html",
            "/a\0.html",
            "/a b.html",
            "/ä.html",
        ] {
            assert_eq!(Asset::at(path), None, "{path:?}");
        }
    }
}
