//! The signature of fal's callbacks: Ed25519, by keys that fal publishes at its REST host, and that are kept here for a
//! day.

use std::time::Duration;

use auth::secrets;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use platform::http_client::Limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::FAL_REST_URL;
use crate::executor::{Arrived, Authenticity, Context, setting};

/// The seconds by which the time of a callback may differ from ours.
const TOLERANCE: i64 = 300;

/// The seconds for which keys are kept.
const KEPT_FOR: i64 = 24 * 3600;

/// The seconds after which keys that do not fit are asked for again, because fal may have other keys by then.
const MAY_HAVE_CHANGED: i64 = 300;

/// The most keys that are tried.
const MOST_KEYS: usize = 16;

/// The name of the keys in the key-value store.
const STORED: &str = "fal-keys";

const CALL: Limits = Limits {
    timeout: Duration::from_secs(5),
    max_bytes: 64 * 1024,
};

/// The keys of fal.
#[derive(Serialize, Deserialize)]
struct Keys {
    /// The time at which fal sent them.
    told_at: i64,
    /// The points, in base64url.
    keys: Vec<String>,
}

/// Checks whether fal has signed a callback within the last five minutes.
pub(super) async fn authenticity(callback: &Arrived<'_>, context: &Context<'_>) -> Authenticity {
    let now = context.clock.unix_seconds();
    let Some((message, signature)) = signed(callback, now) else {
        return Authenticity::Wrong;
    };
    if let Some(kept) = kept(context, now).await {
        if kept.verify(&message, &signature) {
            return Authenticity::Right;
        }
        if now - kept.told_at < MAY_HAVE_CHANGED {
            return Authenticity::Wrong;
        }
    }
    match fetch_keys(context, now).await {
        Ok(keys) if keys.verify(&message, &signature) => Authenticity::Right,
        Ok(_) => Authenticity::Wrong,
        Err(reason) => Authenticity::Unclear(reason),
    }
}

/// The text that the signature of a callback covers, and the signature; `None` if the callback has none, or if its time
/// differs too much from ours.
fn signed(callback: &Arrived<'_>, now: i64) -> Option<(String, Signature)> {
    let header = |name: &str| (callback.header)(&format!("x-fal-webhook-{name}"));
    let timestamp = header("timestamp")?;
    let at: i64 = timestamp.trim().parse().ok()?;
    if now.abs_diff(at) > TOLERANCE.unsigned_abs() {
        return None;
    }
    let (request, user) = (header("request-id")?, header("user-id")?);
    let digest = secrets::hex(&Sha256::digest(callback.body));
    let signature: Signature = header("signature")?.trim().parse().ok()?;
    Some((
        format!("{request}\n{user}\n{timestamp}\n{digest}"),
        signature,
    ))
}

impl Keys {
    fn verify(&self, message: &str, signature: &Signature) -> bool {
        self.keys.iter().any(|key| {
            let point = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).ok();
            let key = point.and_then(|point| VerifyingKey::try_from(&point[..]).ok());
            key.is_some_and(|key| key.verify_strict(message.as_bytes(), signature).is_ok())
        })
    }
}

/// The keys that fal sent less than a day ago.
async fn kept(context: &Context<'_>, now: i64) -> Option<Keys> {
    let kept = context.key_value.get(STORED).await;
    let kept = kept.unwrap_or_else(|error| {
        tracing::warn!(%error, "fal's keys could not be read");
        None
    });
    let keys: Keys = serde_json::from_slice(&kept?).ok()?;
    (0..KEPT_FOR)
        .contains(&(now - keys.told_at))
        .then_some(keys)
}

/// Asks fal for its keys, and keeps them.
async fn fetch_keys(context: &Context<'_>, now: i64) -> Result<Keys, String> {
    let base = setting(context.config, FAL_REST_URL);
    let base = base.ok().flatten().ok_or("there is no `fal_rest_url`")?;
    let url = format!("{}/.well-known/jwks.json", base.trim_end_matches('/'));
    let request = http::Request::get(url).body(Vec::new());
    let request = request.map_err(|_| "`fal_rest_url` is not a URL")?;
    let answer = context.http.send(request, CALL).await;
    let answer = answer.map_err(|error| format!("fal's keys: {error}"))?;
    let set: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let of_form = |key: &&Value| key["kty"] == "OKP" && key["x"].is_string();
    let keys: Vec<String> = set["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(of_form)
        .filter_map(|key| Some(key["x"].as_str()?.to_owned()))
        .take(MOST_KEYS)
        .collect();
    if !answer.status().is_success() || keys.is_empty() {
        let status = answer.status().as_u16();
        return Err(format!("fal sends no keys (status {status})"));
    }
    let keys = Keys { told_at: now, keys };
    let stored = serde_json::to_vec(&keys).unwrap_or_default();
    if let Err(error) = context.key_value.set(STORED, stored).await {
        tracing::warn!(%error, "fal's keys could not be kept");
    }
    Ok(keys)
}
