//! The bearer token of Kling's API.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use platform::Config;
use serde_json::json;
use sha2::Sha256;

use super::settings::{KLING_ACCESS_KEY, KLING_API_KEY, KLING_SECRET_KEY};
use crate::executor::{Failure, setting};

/// The API key. The second generation takes nothing else.
pub(super) fn key(config: &dyn Config) -> Result<String, Failure> {
    setting(config, KLING_API_KEY)?.ok_or_else(|| {
        Failure::access(
            "the server has no `kling_api_key`, without which Kling takes no model of its second generation",
        )
    })
}

/// The bearer token: the API key, or else a token signed with the pair of keys.
pub(super) fn bearer(config: &dyn Config, now: i64) -> Result<String, Failure> {
    if let Some(key) = setting(config, KLING_API_KEY)? {
        return Ok(key);
    }
    let pair = (
        setting(config, KLING_ACCESS_KEY)?,
        setting(config, KLING_SECRET_KEY)?,
    );
    match pair {
        (Some(access_key), Some(secret_key)) => Ok(jwt(&access_key, &secret_key, now)),
        _ => Err(Failure::access(
            "the server has neither `kling_api_key` nor `kling_access_key` and `kling_secret_key`",
        )),
    }
}

/// Makes a JSON Web Token (RFC 7519) signed with HS256.
fn jwt(access_key: &str, secret_key: &str, now: i64) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "typ": "JWT" }).to_string());
    let claims = json!({ "iss": access_key, "exp": now + 1800, "nbf": now - 5 }).to_string();
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    // HMAC takes a key of any length, so this never fails.
    let signature = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).map(|mut mac| {
        mac.update(signed.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    });
    format!("{signed}.{}", signature.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_api_key_counts_more_than_the_pair() {
        let pair = [
            ("kling_access_key", "access"),
            ("kling_secret_key", "secret"),
        ];
        let with = |more: &[(&str, &str)], without: usize| {
            MapConfig::from_pairs(&[more, &pair[without..]].concat())
        };
        let key = bearer(&with(&[("kling_api_key", "key")], 0), 7).unwrap();
        assert_eq!(key, "key");
        assert_eq!(
            bearer(&with(&[], 0), 7).unwrap(),
            jwt("access", "secret", 7)
        );
        for without in [1, 2] {
            let Err(Failure::Access(words)) = bearer(&with(&[], without), 7) else {
                panic!("half a pair will do");
            };
            assert!(words.contains("`kling_api_key`"), "{words}");
        }
    }

    /// The signature is that of Python's `hmac` for this header, these claims and this key.
    #[test]
    fn a_token_has_its_header_its_claims_and_its_signature() {
        let token = jwt("access", "secret", 1_700_000_000);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let expected = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
            eyJleHAiOjE3MDAwMDE4MDAsImlzcyI6ImFjY2VzcyIsIm5iZiI6MTY5OTk5OTk5NX0";
        assert_eq!(signed, expected);
        assert_eq!(signature, "as6jODCc-mOoU62l6myejbnucRhrSAwkOe-wCm5Udmg");
        let (header, claims) = signed.split_once('.').unwrap();
        let decode = |part| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(decode(header), json!({ "alg": "HS256", "typ": "JWT" }));
        assert_eq!(
            decode(claims),
            json!({ "iss": "access", "exp": 1_700_001_800, "nbf": 1_699_999_995 })
        );
    }
}
