//! The signatures in the form of [Standard Webhooks](https://www.standardwebhooks.com): an HMAC-SHA256 of
//! `{id}.{timestamp}.{body}`, in base64 after `v1,`. Several signatures are separated by spaces.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// The most seconds between the time of a message and the time at which it is checked, so that an old one cannot be sent
/// again.
const MOST_SECONDS: u64 = 300;

/// The most signatures of one message that are looked at. A sender that changes its secret sends two.
const MOST_SIGNATURES: usize = 8;

/// The secret of one sender. It is never shown.
pub struct Secret(Vec<u8>);

/// The headers of a signed message, as they came.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The header `webhook-id`.
    pub id: &'a str,
    /// The header `webhook-timestamp`, in Unix seconds.
    pub timestamp: &'a str,
    /// The header `webhook-signature`.
    pub signatures: &'a str,
}

impl Secret {
    /// Reads a secret as senders show it: `whsec_` and base64. `None` if it is not one.
    pub fn read(text: &str) -> Option<Self> {
        let encoded = text.trim().strip_prefix("whsec_")?;
        let key = STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
        (!key.is_empty()).then_some(Self(key))
    }

    /// Returns whether one of the signatures is of this message, and the time of the message is within five minutes of
    /// `now`. How long the comparison takes does not depend on the place at which a signature differs.
    pub fn verifies(&self, signed: Signed<'_>, body: &[u8], now: i64) -> bool {
        let Ok(timestamp) = signed.timestamp.parse::<i64>() else {
            return false;
        };
        if timestamp.abs_diff(now) > MOST_SECONDS {
            return false;
        }
        let right = code(&self.0, &message(signed.id, signed.timestamp, body));
        let right = format!("v1,{}", STANDARD.encode(right));
        let given = signed.signatures.split(' ').take(MOST_SIGNATURES);
        let is_right = given.fold(Choice::from(0), |is_right, one| {
            is_right | right.as_bytes().ct_eq(one.as_bytes())
        });
        is_right.into()
    }
}

/// The bytes that are signed.
pub(crate) fn message(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [format!("{id}.{timestamp}.").as_bytes(), body].concat()
}

/// The authentication code of a message.
pub(crate) fn code(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length.
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(message);
            mac.finalize().into_bytes().into()
        }
        Err(_) => rand::random(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=";
    const BODY: &str = r#"{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}"#;
    const RIGHT: &str = "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=";
    const AT: i64 = 1_781_080_794;

    fn verifies(signatures: &str, body: &str, now: i64) -> bool {
        let signed = Signed {
            id: "9876543210",
            timestamp: "1781080794",
            signatures,
        };
        let secret = Secret::read(SECRET).unwrap();
        secret.verifies(signed, body.as_bytes(), now)
    }

    /// The example comes from a real sender.
    #[test]
    fn the_example_of_a_sender_verifies_and_nothing_else_does() {
        assert!(verifies(RIGHT, BODY, AT));
        assert!(verifies(&format!("v1,AAAA {RIGHT}"), BODY, AT));
        // A sender that has just changed its secret may send the same signature twice.
        assert!(verifies(&format!("{RIGHT} {RIGHT}"), BODY, AT));
        assert!(!verifies(RIGHT, &BODY.replace("succeeded", "failed"), AT));
        assert!(!verifies("", BODY, AT));
        assert!(!verifies(&RIGHT.replace("v1,", "v2,"), BODY, AT));
        assert!(!verifies(&RIGHT[..RIGHT.len() - 1], BODY, AT));
        let late = format!("{}{RIGHT}", "v1,AAAA ".repeat(MOST_SIGNATURES));
        assert!(!verifies(&late, BODY, AT));
        let other = Secret::read("whsec_b3RoZXI=").unwrap();
        let signed = Signed {
            id: "9876543210",
            timestamp: "1781080794",
            signatures: RIGHT,
        };
        assert!(!other.verifies(signed, BODY.as_bytes(), AT));
        let secret = Secret::read(SECRET).unwrap();
        for wrong in [
            Signed {
                id: "9876543211",
                ..signed
            },
            Signed {
                timestamp: "1781080795",
                ..signed
            },
            Signed {
                timestamp: "soon",
                ..signed
            },
            Signed {
                timestamp: "-9223372036854775808",
                ..signed
            },
        ] {
            assert!(!secret.verifies(wrong, BODY.as_bytes(), AT), "{wrong:?}");
        }
    }

    #[test]
    fn a_message_is_valid_for_five_minutes() {
        for (seconds, is_right) in [
            (0, true),
            (299, true),
            (300, true),
            (301, false),
            (360, false),
        ] {
            assert_eq!(verifies(RIGHT, BODY, AT + seconds), is_right, "{seconds}");
            assert_eq!(verifies(RIGHT, BODY, AT - seconds), is_right, "-{seconds}");
        }
    }

    #[test]
    fn a_secret_has_its_form() {
        for wrong in ["", "whsec_", "whsec_?", "dGVzdA=="] {
            assert!(Secret::read(wrong).is_none(), "{wrong}");
        }
        assert!(Secret::read(" whsec_dGVzdA ").is_some());
    }
}
