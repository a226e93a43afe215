//! The media types under which results are served.
//!
//! A browser must not see every type that a service names, because `text/html` would be a page of this origin.
//! Pictures, videos and sounds keep their type; anything else is served as bytes to be saved.

/// The type of a result that is not a picture, a video or a sound.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// The media type under which a result is served if its service calls it `told`: `image/…`, `video/…` or `audio/…` in
/// lower case and without parameters, or [`OCTET_STREAM`].
pub(crate) fn safe(told: &str) -> String {
    let essence = told.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("image" | "video" | "audio", subtype)) if is_token(subtype) => essence,
        _ => OCTET_STREAM.to_owned(),
    }
}

/// The ending of the address of a film, because a page that has only the address shows anything else as a picture.
pub(crate) fn ending(told: &str) -> &'static str {
    match safe(told).as_str() {
        "video/webm" => ".webm",
        "video/quicktime" => ".mov",
        other if other.starts_with("video/") => ".mp4",
        _ => "",
    }
}

/// The longest subtype that is kept, in bytes.
const MAX_SUBTYPE: usize = 100;

/// Whether the text is a token (RFC 9110, section 5.6.2).
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
        for (told, served) in [
            ("image/png", "image/png"),
            ("Image/PNG", "image/png"),
            (" image/jpeg ; q=1", "image/jpeg"),
            ("image/svg+xml; charset=utf-8", "image/svg+xml"),
            ("video/mp4", "video/mp4"),
            ("audio/x-wav", "audio/x-wav"),
        ] {
            assert_eq!(safe(told), served, "{told}");
        }
        for (told, end) in [
            ("Video/MP4; codecs=avc1", ".mp4"),
            ("video/x-matroska", ".mp4"),
            ("video/webm", ".webm"),
            ("video/quicktime", ".mov"),
            ("image/png", ""),
            ("text/html", ""),
        ] {
            assert_eq!(ending(told), end, "{told}");
        }
        for told in [
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
            assert_eq!(safe(told), OCTET_STREAM, "{told:?}");
        }
    }
}
