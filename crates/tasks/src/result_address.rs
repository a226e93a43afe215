//! The address of a result as its service tells it, which goes into a row and a document.

use base64::{Engine, engine::general_purpose::STANDARD};
use url::Url;

use crate::Media;

/// The longest address of a result, in bytes.
const MAX_BYTES: usize = 2048;

/// Reads the address of a result: http(s) and short as it is; a `data:` URL as what it holds. Errors are words for the
/// user.
pub(crate) fn read(address: String) -> Result<Media, String> {
    if let Some(rest) = address.strip_prefix("data:") {
        return inline(rest).ok_or_else(|| "the result is a data: URL that cannot be read".into());
    }
    if address.len() > MAX_BYTES {
        return Err(format!(
            "the address of the result has {} bytes, and not at most {MAX_BYTES}",
            address.len()
        ));
    }
    let is_of_the_web =
        Url::parse(&address).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_of_the_web && !address.contains(char::is_control) {
        Ok(Media::Url(address))
    } else {
        Err("the address of the result is no http(s) URL".into())
    }
}

fn inline(rest: &str) -> Option<Media> {
    let (head, data) = rest.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some(Media::Inline {
        media_type: media_type.to_owned(),
        bytes: STANDARD.decode(data.trim()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_web_and_short_or_holds_the_result() {
        let long = |bytes: usize| format!("https://a.example/{}", "x".repeat(bytes - 18));
        for good in [
            "https://a.example/b.mp4?c=d",
            "http://127.0.0.1:1/b",
            &long(2048),
        ] {
            assert_eq!(read(good.into()), Ok(Media::Url(good.into())));
        }
        assert_eq!(
            read("data:image/png;base64,AAEC".into()),
            Ok(Media::Inline {
                media_type: "image/png".into(),
                bytes: vec![0, 1, 2]
            })
        );
        for bad in [
            "",
            "b.mp4",
            "javascript:alert(1)",
            "ftp://a.example/b",
            "https://a.example/\n",
            "data:image/png,abc",
            "data:image/png;base64,?",
            "data:",
            &long(2049),
        ] {
            assert!(read(bad.into()).is_err(), "{bad}");
        }
    }
}
