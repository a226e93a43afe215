//! The signed addresses of POST requests to a bucket (AWS Signature Version 4, in the query). `rusty-s3` signs all
//! others; its own POST requests come with an XML library, which each component would carry.

use auth::secrets;
use chrono::DateTime;
use hmac::{Hmac, Mac};
use rusty_s3::{Bucket, Credentials};
use sha2::{Digest, Sha256};

use crate::assets::{AssetError, SIGNED_FOR};

/// The address of a POST request about an object, signed at this time. The caller gives the pairs of `query` in the
/// order of their names, and these come after `X-Amz-…` in it.
pub(crate) fn post(
    (bucket, credentials): (&Bucket, &Credentials),
    object: &str,
    query: &[(&str, &str)],
    now: i64,
) -> Result<String, AssetError> {
    post_for(
        (bucket, credentials),
        object,
        query,
        now,
        SIGNED_FOR.as_secs(),
    )
}

fn post_for(
    (bucket, credentials): (&Bucket, &Credentials),
    object: &str,
    query: &[(&str, &str)],
    now: i64,
    seconds: u64,
) -> Result<String, AssetError> {
    let wrong = || AssetError::Bucket("the request cannot be signed".into());
    let mut url = bucket.object_url(object).map_err(|_| wrong())?;
    let time = DateTime::from_timestamp(now, 0).ok_or_else(wrong)?;
    let (day, time) = (
        time.format("%Y%m%d").to_string(),
        time.format("%Y%m%dT%H%M%SZ").to_string(),
    );
    let scope = format!("{day}/{}/s3/aws4_request", bucket.region());
    let credential = format!("{}/{scope}", credentials.key());
    let seconds = seconds.to_string();
    let standard = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &time),
        ("X-Amz-Expires", &seconds),
        ("X-Amz-SignedHeaders", "host"),
    ];
    let pairs = standard.iter().chain(query);
    let pairs = pairs.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    let canonical = pairs.collect::<Vec<_>>().join("&");
    let host = url.host_str().ok_or_else(wrong)?;
    let host = url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request = format!(
        "POST\n{}\n{canonical}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD",
        url.path()
    );
    let request = secrets::hex(&Sha256::digest(request));
    let mut key = format!("AWS4{}", credentials.secret()).into_bytes();
    for part in [&day, bucket.region(), "s3", "aws4_request"] {
        key = code(&key, part)?;
    }
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}");
    let signature = secrets::hex(&code(&key, &text)?);
    url.set_query(Some(&format!("{canonical}&X-Amz-Signature={signature}")));
    Ok(url.into())
}

fn code(key: &[u8], text: &str) -> Result<Vec<u8>, AssetError> {
    let mut code = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|error| AssetError::Bucket(error.to_string()))?;
    code.update(text.as_bytes());
    Ok(code.finalize().into_bytes().to_vec())
}

/// The text, with every character escaped except for the unreserved ones (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use rusty_s3::UrlStyle;

    use super::*;

    /// Uses the test vectors of `rusty-s3`, whose functions this module replaces.
    #[test]
    fn a_request_is_signed_as_the_algorithm_says() {
        let endpoint = "https://s3.amazonaws.com".parse().unwrap();
        let style = UrlStyle::VirtualHost;
        let bucket = Bucket::new(endpoint, style, "examplebucket", "us-east-1").unwrap();
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        );
        for (query, signature) in [
            (
                [("uploads", "1")],
                "a6289f9e5ff2a914c6e324403bcd00b1d258c568487faa50d317ef0910c25c0a",
            ),
            (
                [("uploadId", "abcd")],
                "19b9d341ce3c6ebd9f049882e875dcad4adc493d9d46d55148f4113146c53dd8",
            ),
        ] {
            let keys = (&bucket, &credentials);
            let signed = post_for(keys, "test.txt", &query, 1_369_353_600, 86_400).unwrap();
            let (name, value) = query[0];
            let expected = format!(
                "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
                 &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
                 &{name}={value}&X-Amz-Signature={signature}"
            );
            assert_eq!(signed, expected);
        }
        assert_eq!(encoded("a b/=~"), "a%20b%2F%3D~");
    }
}
