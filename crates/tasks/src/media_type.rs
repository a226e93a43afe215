//! The media types under which results are served.
//!
//! A browser must not see every type that a service names, because `text/html` would be a page of this origin.
//! Pictures, videos and sounds keep their type; anything else is served as bytes to be saved.

use url::Url;

/// The type of a result that is not a picture, a video or a sound.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// The media type under which a result is served if its service has `declared` this one: `image/…`, `video/…` or
/// `audio/…` in lower case and without parameters, or [`OCTET_STREAM`].
pub(crate) fn safe(declared: &str) -> String {
    let essence = declared.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("image" | "video" | "audio", subtype)) if is_token(subtype) => essence,
        _ => OCTET_STREAM.to_owned(),
    }
}

/// The ending of the address of a film. A page that knows only the address shows a film without such an ending as a
/// picture.
pub(crate) fn ending(declared: &str) -> &'static str {
    match safe(declared).as_str() {
        "video/webm" => ".webm",
        "video/quicktime" => ".mov",
        other if other.starts_with("video/") => ".mp4",
        _ => "",
    }
}

/// The media type of a picture by the ending of its address; `None` if the ending names none. The server at the address
/// may send another type, so only the types that a service would refuse are read from the ending.
pub(crate) fn by_ending(address: &str) -> Option<&'static str> {
    let url = Url::parse(address).ok()?;
    let (_, ending) = url.path().rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "webp" => "image/webp",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "heic" => "image/heic",
        "avif" => "image/avif",
        _ => return None,
    })
}

/// The media type of a picture or a film by its first bytes; `None` if it is neither.
pub(crate) fn recognised(bytes: &[u8]) -> Option<&'static str> {
    of_picture(bytes).or_else(|| of_film(bytes))
}

/// The media type by the first bytes of an image.
pub(crate) fn of_picture(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', b'i', ..] => "image/heic",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => "image/avif",
        _ => return None,
    })
}

/// The media type by the first bytes of a film.
fn of_film(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "video/webm",
        [
            _,
            _,
            _,
            _,
            b'f',
            b't',
            b'y',
            b'p',
            b'q',
            b't',
            b' ',
            b' ',
            ..,
        ] => "video/quicktime",
        // The brands of other formats in the same box, such as sound alone, are left out.
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => {
            let brands: [&[u8]; 6] = [b"iso", b"mp4", b"avc1", b"M4V", b"dash", b"MSNV"];
            let is_film = brands.iter().any(|known| brand.starts_with(known));
            return is_film.then_some("video/mp4");
        }
        _ => return None,
    })
}

/// Returns whether bytes are a page or a message: they are neither a picture nor a film, but markup other than a
/// drawing (SVG), or JSON, or are declared as one of these.
pub(crate) fn is_page(first: &[u8], declared: &str) -> bool {
    const MOST_HEAD: usize = 1024;
    if recognised(first).is_some() {
        return false;
    }
    let head = first[..first.len().min(MOST_HEAD)].to_ascii_lowercase();
    // Some files begin with a byte order mark.
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    let head = head.trim_ascii_start();
    let has = |words: &[u8]| head.windows(words.len()).any(|here| here == words);
    let declared = declared.split(';').next().unwrap_or_default().trim();
    let is_called = [
        "text/html",
        "application/json",
        "application/xml",
        "text/xml",
    ]
    .iter()
    .any(|page| declared.eq_ignore_ascii_case(page));
    match head {
        [b'<', ..] => has(b"<html") || !has(b"<svg"),
        [b'{', ..] => true,
        _ => is_called,
    }
}

/// The longest subtype that is kept, in bytes.
const MAX_SUBTYPE: usize = 100;

/// Returns whether the text is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_SUBTYPE).contains(&text.len()) && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_films_and_sounds_keep_their_type_and_nothing_else_does() {
        for (declared, served) in [
            ("image/png", "image/png"),
            ("Image/PNG", "image/png"),
            (" image/jpeg ; q=1", "image/jpeg"),
            ("image/svg+xml; charset=utf-8", "image/svg+xml"),
            ("video/mp4", "video/mp4"),
            ("audio/x-wav", "audio/x-wav"),
        ] {
            assert_eq!(safe(declared), served, "{declared}");
        }
        for (declared, end) in [
            ("Video/MP4; codecs=avc1", ".mp4"),
            ("video/x-matroska", ".mp4"),
            ("video/webm", ".webm"),
            ("video/quicktime", ".mov"),
            ("image/png", ""),
            ("text/html", ""),
        ] {
            assert_eq!(ending(declared), end, "{declared}");
        }
        for declared in [
            "",
            "image",
            "image/",
            "image/*/x",
            "image/a b",
            "image/png\r\nset-cookie: a=b",
            "image/png\nx",
            "image/p\u{e9}",
            "image/\u{0}",
            "text/html",
            "text/html; image/png",
            "application/pdf",
            "imagex/png",
            &format!("image/{}", "x".repeat(101)),
        ] {
            assert_eq!(safe(declared), OCTET_STREAM, "{declared:?}");
        }
    }

    #[test]
    fn the_ending_of_an_address_names_only_types_that_a_service_would_refuse() {
        for (address, expected) in [
            ("https://a.example/b.webp", Some("image/webp")),
            ("https://a.example/b.GIF?size=1", Some("image/gif")),
            ("https://a.example/b.bmp#x", Some("image/bmp")),
            ("https://a.example/b.c.heic", Some("image/heic")),
            ("https://a.example/b.avif", Some("image/avif")),
            ("https://a.example/b.png", None),
            ("https://a.example/b", None),
            ("b.webp", None),
        ] {
            assert_eq!(by_ending(address), expected, "{address}");
        }
    }

    #[test]
    fn a_page_is_known_by_its_first_bytes_or_its_name() {
        for (first, declared, is_page) in [
            (&b"<!doctype html><p>"[..], "video/mp4", true),
            (b"\xef\xbb\xbf\r\n<HTML>", "image/png", true),
            (b"<?xml version='1.0'?><Error/>", "", true),
            (b"{\"error\": 1}", "", true),
            (b"no such film", "Text/HTML; charset=utf-8", true),
            (b"<?xml version='1.0'?><svg/>", "image/svg+xml", false),
            (b"<html><svg/></html>", "image/svg+xml", true),
            (b"\x89PNG\r\n\x1a\n", "text/html", false),
            (b"ID3\x04", "audio/mpeg", false),
            (b"\0", "video/mp4", false),
            (b"", "", false),
        ] {
            assert_eq!(
                super::is_page(first, declared),
                is_page,
                "{first:?} {declared}"
            );
        }
    }

    #[test]
    fn a_picture_or_a_film_is_known_by_its_first_bytes() {
        for (first, found) in [
            (&b"\x89PNG\r\n\x1a\n"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"RIFF\x01\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x01\0\0\0WAVEfmt ", None),
            (b"GIF89a", Some("image/gif")),
            (b"BM\0\0", Some("image/bmp")),
            (b"\0\0\0\x18ftypheic", Some("image/heic")),
            (b"\0\0\0\x18ftypavif", Some("image/avif")),
            (b"\0\0\0\x18ftypisom\0\0\x02\0", Some("video/mp4")),
            (b"\0\0\0\x18ftypmp42", Some("video/mp4")),
            (b"\0\0\0\x18ftypqt  ", Some("video/quicktime")),
            (b"\0\0\0\x18ftypM4A ", None),
            (b"\0\0\0\x18ftyp", None),
            (b"\x1a\x45\xdf\xa3", Some("video/webm")),
            (b"<svg xmlns=", None),
            (b"<!doctype html>", None),
            (b"%PDF-1.7", None),
            (b"", None),
        ] {
            assert_eq!(recognised(first), found, "{first:?}");
        }
    }
}
