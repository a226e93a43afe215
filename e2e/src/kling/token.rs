//! The bearer tokens of Kling.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::server::{Reply, Request};
use crate::sign;

/// The access key that Kling knows.
pub const ACCESS_KEY: &str = "kling-access-key-for-tests";
/// The secret key that signs tokens.
pub const SECRET_KEY: &str = "kling-secret-key-for-tests";

/// Adds the header `date`, by Kling's clock.
pub(super) fn dated(reply: Reply, now: i64) -> Reply {
    let Reply::Answer(mut answer) = reply else {
        return reply;
    };
    let date = chrono::DateTime::from_timestamp(now, 0).unwrap();
    let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    answer.headers_mut().insert("date", date.parse().unwrap());
    Reply::Answer(answer)
}

/// The reason why a token is rejected.
pub(super) enum Rejected {
    /// A token that is valid at another time, with Kling's code for that.
    Untimely(i64),
    /// A token that is never valid, with the reason.
    Unknown(&'static str),
}

/// Checks the bearer token: signed with the secret key (HS256), issued by the access key, valid now.
pub(super) fn check(request: &Request, now: i64) -> Result<(), Rejected> {
    let unknown = |words| move || Rejected::Unknown(words);
    let no_token = unknown("no token");
    let bearer = request.header("authorization").strip_prefix("Bearer ");
    let token = bearer.ok_or_else(no_token)?;
    let (signed, signature) = token.rsplit_once('.').ok_or_else(no_token)?;
    let (header, claims) = signed.split_once('.').ok_or_else(no_token)?;
    let right = URL_SAFE_NO_PAD.encode(sign::code(SECRET_KEY.as_bytes(), signed.as_bytes()));
    if signature != right {
        return Err(Rejected::Unknown("the signature is wrong"));
    }
    let read = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (header, claims) = read(header).zip(read(claims)).ok_or_else(no_token)?;
    if header != json!({ "alg": "HS256", "typ": "JWT" }) || claims["iss"] != ACCESS_KEY {
        return Err(Rejected::Unknown("the token has another issuer"));
    }
    let times = claims["nbf"].as_i64().zip(claims["exp"].as_i64());
    let (from, to) = times.ok_or_else(unknown("the token has no times"))?;
    if from > now || to > now + 1800 {
        return Err(Rejected::Untimely(1003));
    }
    if to <= now {
        return Err(Rejected::Untimely(1004));
    }
    Ok(())
}
