//! The address of a result, which goes into a row and a document.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use platform::{HttpClient, HttpError, http_client::Limits};
use url::Url;

use crate::{
    address,
    executor::{Failure, Media},
    media_type,
};

/// The longest address of a result that a row holds, in bytes.
const MAX_BYTES: usize = 2048;

/// The longest address that is fetched, in bytes.
const MAX_FETCHED_BYTES: usize = 16 * 1024;

/// A result at a long address is kept on this server, so it must be small enough for the database.
const FETCH: Limits = Limits {
    timeout: Duration::from_secs(5),
    max_bytes: 8 * 1024 * 1024,
};

/// The address of a result that a service sent.
#[derive(Debug, PartialEq)]
pub(crate) enum ResultAddress {
    /// The result in the form in which a task holds it.
    Result(Media),
    /// An address that is too long for a row and a document: the result must be [`fetch`]ed and kept.
    TooLong(Url),
}

/// Reads the address of a result: a short http(s) address as it is, a `data:` URL as the result in it.
///
/// # Errors
/// The reason, in words for the user.
pub(crate) fn read(address: String) -> Result<ResultAddress, String> {
    let address = address.trim().to_owned();
    let scheme = address.get(..5).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("data:") {
        let held = inline(&address[5..]).map(ResultAddress::Result);
        return held.ok_or_else(|| "the result is a data: URL that cannot be read".into());
    }
    if address.len() > MAX_FETCHED_BYTES {
        return Err(format!(
            "the address of the result has {} bytes, more than {MAX_FETCHED_BYTES}",
            address.len()
        ));
    }
    let url = Url::parse(&address)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .filter(|_| !address.contains(char::is_control))
        .ok_or("the address of the result is not an http(s) URL")?;
    Ok(if address.len() > MAX_BYTES {
        ResultAddress::TooLong(url)
    } else {
        ResultAddress::Result(Media::Url(address))
    })
}

/// Fetches a result from a public address.
///
/// # Errors
/// Permanent if the address is not public or the result is too large; to be retried if it cannot be fetched.
pub(crate) async fn fetch(url: &Url, http: &dyn HttpClient) -> Result<Media, Failure> {
    let told =
        |reason: String| format!("the address of the result is too long to be kept, and {reason}");
    let url = address::check(url.as_str()).map_err(|reason| Failure::Permanent(told(reason)))?;
    let cannot = || Failure::retry(told("the result cannot be fetched".into()));
    let request = http::Request::get(url.as_str()).body(Vec::new());
    let request = request.map_err(|_| Failure::Permanent(told("it is not a URL".into())))?;
    let answer = http
        .send(request, FETCH)
        .await
        .map_err(|error| match error {
            HttpError::TooLarge => Failure::Permanent(told(format!(
                "the result has more than {} bytes",
                FETCH.max_bytes
            ))),
            error => {
                tracing::warn!(host = url.host_str(), %error, "a result was not fetched");
                cannot()
            }
        })?;
    if !answer.status().is_success() {
        return Err(cannot());
    }
    let media_type = answer.headers().get("content-type");
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_owned();
    let bytes = answer.into_body();
    if media_type::is_page(&bytes, &media_type) {
        return Err(cannot());
    }
    Ok(Media::Inline { media_type, bytes })
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
    use platform::native::{AnswerWith, block_on};

    use super::*;

    fn long(bytes: usize) -> String {
        format!("https://a.example/{}", "x".repeat(bytes - 18))
    }

    #[test]
    fn an_address_is_of_the_web_and_short_or_holds_the_result() {
        for good in [
            "https://a.example/b.mp4?c=d",
            "http://127.0.0.1:1/b",
            &long(2048),
        ] {
            let result = ResultAddress::Result(Media::Url(good.into()));
            assert_eq!(read(good.into()), Ok(result));
        }
        assert_eq!(
            read("data:image/png;base64,AAEC".into()),
            Ok(ResultAddress::Result(Media::Inline {
                media_type: "image/png".into(),
                bytes: vec![0, 1, 2]
            }))
        );
        let blanks = read(" https://a.example/b\n".into());
        let trimmed = Media::Url("https://a.example/b".into());
        assert_eq!(blanks, Ok(ResultAddress::Result(trimmed)));
        let capitals = read("DATA:image/png;base64,AAEC".into());
        assert!(matches!(
            capitals,
            Ok(ResultAddress::Result(Media::Inline { .. }))
        ));
        for bytes in [2049, 16 * 1024] {
            let read = read(long(bytes));
            assert!(matches!(read, Ok(ResultAddress::TooLong(_))), "{read:?}");
        }
        for bad in [
            "",
            "b.mp4",
            "javascript:alert(1)",
            "ftp://a.example/b",
            "https://a.example/\nb",
            "data:image/png,abc",
            "data:image/png;base64,?",
            "data:",
            &long(16 * 1024 + 1),
        ] {
            assert!(read(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_result_at_a_long_address_is_fetched_from_public_places_alone() {
        let url = |text: &str| Url::parse(text).unwrap();
        let answer = |status: u16| {
            AnswerWith(move |_: http::Request<Vec<u8>>| {
                let answer = http::Response::builder().status(status);
                Ok(answer
                    .header("content-type", "video/mp4")
                    .body(vec![1, 2])
                    .unwrap())
            })
        };
        let public = url(&long(3000));
        assert_eq!(
            block_on(fetch(&public, &answer(200))),
            Ok(Media::Inline {
                media_type: "video/mp4".into(),
                bytes: vec![1, 2]
            })
        );
        let later = block_on(fetch(&public, &answer(404)));
        assert!(matches!(later, Err(Failure::Retry { .. })), "{later:?}");
        let page = AnswerWith(|_: http::Request<Vec<u8>>| {
            Ok(http::Response::new(b"<!doctype html>".to_vec()))
        });
        let later = block_on(fetch(&public, &page));
        assert!(matches!(later, Err(Failure::Retry { .. })), "{later:?}");
        let too_large = AnswerWith(|_: http::Request<Vec<u8>>| Err(HttpError::TooLarge));
        let never = block_on(fetch(&public, &too_large));
        assert!(matches!(never, Err(Failure::Permanent(_))), "{never:?}");
        let private = block_on(fetch(&url("http://10.0.0.1/a"), &answer(200)));
        assert!(matches!(private, Err(Failure::Permanent(_))), "{private:?}");
    }
}
