//! Images that users give: an http(s) address, a `data:` URL, or base64.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use platform::http_client::Limits;

use crate::{Failure, Outside, address, engine::public_url};

/// The largest image, in bytes.
pub const MAX_IMAGE_BYTES: usize = 10 * 1024 * 1024;

const FETCH: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: MAX_IMAGE_BYTES,
};

/// Forgiving about padding, for agents differ in it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An image as a user gave it, checked for its form.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// At an http(s) address.
    Address(String),
    /// Here.
    Inline(Image),
}

/// An image.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Such as `image/png`.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Image {
    /// Its bytes in base64.
    pub fn base64(&self) -> String {
        BASE64.encode(&self.bytes)
    }
}

/// Reads what a user gave. Errors are words for that user, and say what to send instead.
pub fn read(text: &str) -> Result<Given, String> {
    const WANTED: &str = "send an http(s) URL, a data: URL or base64";
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        // What may be a result of our own is looked at when it is needed, for only then it is known
        // where we are.
        if !text.contains(OWN) {
            address::check(text)?;
        }
        return Ok(Given::Address(text.to_owned()));
    }
    let (declared, encoded) = match text.strip_prefix("data:") {
        None => (None, text),
        Some(rest) => {
            let (head, encoded) = rest.split_once(',').ok_or("is a data: URL without data")?;
            let media_type = head
                .strip_suffix(";base64")
                .ok_or_else(|| format!("is a data: URL that is not base64; {WANTED}"))?;
            let media_type = media_type.split(';').next().unwrap_or_default();
            (
                Some(media_type.to_owned()).filter(|m| !m.is_empty()),
                encoded,
            )
        }
    };
    if encoded.len() / 4 * 3 > MAX_IMAGE_BYTES + 4 {
        return Err(format!("has more than {MAX_IMAGE_BYTES} bytes"));
    }
    let encoded: String = encoded.split_ascii_whitespace().collect();
    let bytes = BASE64
        .decode(encoded)
        .map_err(|_| format!("is no image that can be read here; {WANTED}"))?;
    let recognised = media_type_of(&bytes);
    match recognised.map(str::to_owned).or(declared) {
        Some(media_type) if media_type.starts_with("image/") => {
            Ok(Given::Inline(Image { media_type, bytes }))
        }
        _ => Err(format!(
            "is not a PNG, JPEG, WebP, GIF, BMP, HEIC or AVIF image; {WANTED}"
        )),
    }
}

/// The media type that the first bytes of an image tell.
pub(crate) fn media_type_of(bytes: &[u8]) -> Option<&'static str> {
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

/// The path of results of our own.
const OWN: &str = "/assets/asset_";

/// The id of the asset that an address leads to, if it is one of ours.
pub(crate) fn own(url: &str, outside: &Outside<'_>) -> Option<String> {
    let origin = public_url(outside.config);
    let path = url.strip_prefix(&origin).filter(|_| !origin.is_empty())?;
    path.starts_with(OWN)
        .then(|| path.trim_start_matches("/assets/").to_owned())
}

/// The image itself: fetched, where a user gave its address. Results of our own are read from the asset
/// store.
///
/// # Errors
/// Permanent where the address can never lead to an image; for now where its server fails.
pub async fn obtain(given: Given, outside: &Outside<'_>) -> Result<Image, Failure> {
    let url = match given {
        Given::Inline(image) => return Ok(image),
        Given::Address(url) => url,
    };
    if let Some(id) = own(&url, outside) {
        let asset = outside.assets.read(&id, None).await;
        let asset = asset.map_err(|error| Failure::retry(format!("{url}: {error}")))?;
        let asset = asset.ok_or_else(|| Failure::permanent(format!("{url} is not there")))?;
        return Ok(Image {
            media_type: asset.media_type,
            bytes: asset.bytes,
        });
    }
    address::check(&url).map_err(|reason| Failure::permanent(format!("{url} {reason}")))?;
    let request = http::Request::get(&url)
        .header("accept", "image/*")
        .body(Vec::new())
        .map_err(|_| Failure::permanent(format!("{url} is not a URL")))?;
    let answer = outside
        .http
        .send(request, FETCH)
        .await
        .map_err(|error| match error {
            platform::HttpError::TooLarge => {
                Failure::permanent(format!("{url} has more than {MAX_IMAGE_BYTES} bytes"))
            }
            error => Failure::retry(format!("{url} cannot be fetched: {error}")),
        })?;
    let status = answer.status();
    if !status.is_success() {
        // Redirects are not followed: they could lead to where the address itself may not.
        let reason = format!("{url} answers with status {}", status.as_u16());
        return Err(match status.as_u16() {
            408 | 425 | 429 | 500.. => Failure::retry(reason),
            _ => Failure::Permanent(reason),
        });
    }
    let bytes = answer.into_body();
    match media_type_of(&bytes) {
        Some(media_type) => Ok(Image {
            media_type: media_type.to_owned(),
            bytes,
        }),
        None => Err(Failure::Permanent(format!("{url} is not an image"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

    #[test]
    fn three_forms_are_taken() {
        let inline = |text: &str| match read(text) {
            Ok(Given::Inline(image)) => image.media_type,
            other => panic!("{other:?}"),
        };
        assert_eq!(inline(PIXEL), "image/png");
        assert_eq!(inline(PIXEL.trim_end_matches('=')), "image/png");
        assert_eq!(
            inline(&format!("data:image/png;base64,{PIXEL}")),
            "image/png"
        );
        // What it is counts more than what it is said to be.
        assert_eq!(
            inline(&format!("data:image/jpeg;base64,{PIXEL}")),
            "image/png"
        );
        assert_eq!(
            read("https://example.com/a.png"),
            Ok(Given::Address("https://example.com/a.png".into()))
        );
    }

    #[test]
    fn anything_else_says_what_to_send() {
        for bad in [
            "",
            "/home/me/picture.png",
            "picture.png",
            "data:image/png,abc",
            "data:text/plain;base64,aGVsbG8=",
            "aGVsbG8=",
            "ftp://example.com/a.png",
            "http://127.0.0.1/a.png",
            "http://[::1]/a.png",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let words = read("/home/me/picture.png").unwrap_err();
        assert!(words.contains("data: URL or base64"), "{words}");
    }
}
