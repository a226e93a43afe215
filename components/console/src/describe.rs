//! The properties of each file in the page's table. The build script uses them; the library has them for its tests
//! only.

/// The folder of the files whose names change with their content.
const HASHED: &str = "static/";

/// Returns whether a browser may keep a file forever, because other content gets another name.
pub(crate) fn is_immutable(path: &str) -> bool {
    path.starts_with(HASHED)
}

/// The media type of a file; `None` if the page has no files of that kind.
pub(crate) fn media_type(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
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

/// The name in the entity tag of one copy of a file; `suffix` is what the copy adds to the file's name. A name that
/// changes with the content is a tag by itself; other files are hashed.
pub(crate) fn tag(path: &str, suffix: &str, bytes: &[u8]) -> String {
    let name = if is_immutable(path) {
        path.rsplit('/').next().unwrap_or(path).to_owned()
    } else {
        format!("{:016x}", fnv1a(bytes))
    };
    format!("{name}{}", suffix.replace('.', "-"))
}

/// Computes FNV-1a with 64 bits. It distinguishes the versions of one file and need not withstand forgery.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_has_its_media_type() {
        for (path, expected) in [
            ("index.html", Some("text/html; charset=utf-8")),
            ("static/a-1.wasm", Some("application/wasm")),
            ("static/a.b_c.js", Some("text/javascript; charset=utf-8")),
            ("static", None),
            ("unknown.exe", None),
        ] {
            assert_eq!(media_type(path), expected, "{path}");
        }
        assert!(is_immutable("static/a-1.wasm") && !is_immutable("index.html"));
    }

    #[test]
    fn each_copy_has_its_own_tag() {
        let hashed = |suffix| tag("static/page-AB.js", suffix, b"x");
        assert_eq!(hashed(""), "page-AB.js");
        assert_eq!(hashed(".br"), "page-AB.js-br");
        assert_ne!(tag("index.html", "", b"one"), tag("index.html", "", b"two"));
        // The test vector of the algorithm's authors.
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
