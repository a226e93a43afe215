//! Entity tags: how a browser learns that what it has is still good.

use crate::{asset::Asset, encoding::Encoding};

/// The tag of one copy of a file. A name that changes with the content is a tag by itself; other
/// files are small, and are hashed.
pub(crate) fn entity_tag(asset: &Asset<'_>, encoding: Option<Encoding>, bytes: &[u8]) -> String {
    let name = if asset.immutable {
        asset
            .file
            .rsplit('/')
            .next()
            .unwrap_or(asset.file)
            .to_owned()
    } else {
        format!("{:016x}", fnv1a(bytes))
    };
    let copy = encoding
        .map(|encoding| format!("-{}", encoding.suffix()))
        .unwrap_or_default();
    format!("\"{name}{copy}\"")
}

/// Whether an `If-None-Match` header lists the tag. Weak tags match too, as the header wants it.
pub(crate) fn matches(if_none_match: Option<&str>, tag: &str) -> bool {
    if_none_match.is_some_and(|header| {
        header
            .split(',')
            .map(str::trim)
            .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
    })
}

/// FNV-1a with 64 bits: tells versions of one file apart; nothing here needs to withstand forgery.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_has_its_own_tag() {
        let asset = Asset {
            file: "static/page-AB.js",
            media_type: "text/javascript",
            immutable: true,
        };
        assert_eq!(entity_tag(&asset, None, b"x"), "\"page-AB.js\"");
        assert_eq!(
            entity_tag(&asset, Some(Encoding::Brotli), b"x"),
            "\"page-AB.js-br\""
        );
        let page = Asset {
            file: "index.html",
            media_type: "text/html",
            immutable: false,
        };
        assert_ne!(
            entity_tag(&page, None, b"one"),
            entity_tag(&page, None, b"two")
        );
        // The test vector of the algorithm's authors.
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn tags_are_found_in_a_list() {
        let cases = [
            (None, false),
            (Some("\"a\""), true),
            (Some("W/\"a\""), true),
            (Some("\"b\" , \"a\""), true),
            (Some("*"), true),
            (Some("\"ab\""), false),
            (Some("a"), false),
            (Some(""), false),
        ];
        for (header, expected) in cases {
            assert_eq!(matches(header, "\"a\""), expected, "{header:?}");
        }
    }
}
