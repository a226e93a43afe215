//! The signatures of callbacks and notifications.
//!
//! Not every service signs its callbacks, so the address that a service gets is signed instead: with an HMAC-SHA256 of
//! the service and the job. The key is the setting `webhook_key`; in development the app makes one at first use and
//! keeps it in the key-value store.
//!
//! A change of the key loses no callback that is still to come: `webhook_key_previous` is the former key. It signs no
//! addresses any more, but its signatures stay valid.

use std::time::Duration;

use platform::{Clock, Config, KeyValue, KeyValueError, UnreadableSetting};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use crate::{secrets, standard_webhooks};

platform::settings! {
    /// The key that signs callback addresses and notifications. In development the app makes one at first use, and keeps it
    /// in the key-value store
    pub WEBHOOK_KEY = "webhook_key", Secret;
    /// The former `webhook_key`, while it is being replaced
    pub(crate) WEBHOOK_KEY_PREVIOUS = "webhook_key_previous", Secret;
}

/// The name of the development key in the key-value store.
const STORED: &str = "webhook-key";

/// The current key and the former one. Neither is ever shown.
pub struct WebhookKey {
    current: Key,
    previous: Option<Key>,
}

struct Key(Vec<u8>);

/// The reason why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The key is not set, and a deployment must set it.
    #[error("`webhook_key` is not set")]
    NotSet,
    /// A key may be set, but cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableSetting),
    /// The store of the development key failed.
    #[error(transparent)]
    Store(#[from] KeyValueError),
}

impl WebhookKey {
    /// Makes a current key without a former one.
    pub fn new(key: impl Into<Vec<u8>>) -> Self {
        Self {
            current: Key(key.into()),
            previous: None,
        }
    }

    /// Adds the former key.
    #[must_use]
    pub fn with_previous(self, key: impl Into<Vec<u8>>) -> Self {
        Self {
            previous: Some(Key(key.into())),
            ..self
        }
    }

    /// Reads the key from the settings; in development without one, from the store, and makes it there if it is
    /// missing.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn obtain(
        config: &dyn Config,
        store: &dyn KeyValue,
        clock: &dyn Clock,
    ) -> Result<Self, KeyError> {
        let key = Self::new(current(config, store, clock).await?);
        Ok(match config.read(WEBHOOK_KEY_PREVIOUS)? {
            Some(previous) => key.with_previous(previous),
            None => key,
        })
    }

    /// The signature of a service's callback address for a job, in hexadecimal.
    pub fn sign(&self, service: &str, job: &str) -> String {
        self.current.sign(service, job)
    }

    /// Returns whether a signature is the one of this service and job, with either key. How long the comparison takes
    /// depends neither on the place at which the signature differs, nor on the key that made it.
    pub fn verifies(&self, service: &str, job: &str, signature: &str) -> bool {
        let is_right = self.keys().fold(Choice::from(0), |is_right, key| {
            let right = key.sign(service, job);
            is_right | right.as_bytes().ct_eq(signature.as_bytes())
        });
        is_right.into()
    }

    /// The secret that a task's agent shares with us. The agent gets it when it posts the task.
    pub fn notification_secret(&self, task_id: &str) -> [u8; 32] {
        self.current.notification_secret(task_id)
    }

    /// Signs a notification to an agent according to Standard Webhooks: `{id}.{timestamp}.{body}`. There is one
    /// signature for each key, because the agent has the secret that was made from the key that was current when it
    /// posted the task.
    pub fn sign_notification(
        &self,
        task_id: &str,
        id: &str,
        timestamp: i64,
        body: &[u8],
    ) -> Vec<[u8; 32]> {
        let message = standard_webhooks::message(id, &timestamp.to_string(), body);
        self.keys()
            .map(|key| Key(key.notification_secret(task_id).to_vec()).code_of(&message))
            .collect()
    }

    /// The keys, the current one first.
    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// The key to sign with.
async fn current(
    config: &dyn Config,
    store: &dyn KeyValue,
    clock: &dyn Clock,
) -> Result<Vec<u8>, KeyError> {
    if let Some(key) = config.read(WEBHOOK_KEY)? {
        return Ok(key.into_bytes());
    }
    if !config.is_development() {
        return Err(KeyError::NotSet);
    }
    if let Some(key) = store.get(STORED).await? {
        return Ok(key);
    }
    let key = rand::random::<[u8; 32]>().to_vec();
    store.set(STORED, key.clone()).await?;
    // Other instances may make a key at the same time, and the store cannot put a value only if there is none. All of
    // them use the key that was stored last, which they can read a moment later.
    clock.sleep(Duration::from_millis(50)).await;
    Ok(store.get(STORED).await?.unwrap_or(key))
}

impl Key {
    fn sign(&self, service: &str, job: &str) -> String {
        secrets::hex(&self.code(&[b"webhook", service.as_bytes(), job.as_bytes()]))
    }

    fn notification_secret(&self, task_id: &str) -> [u8; 32] {
        self.code(&[b"notification", task_id.as_bytes()])
    }

    /// The authentication code of several parts, none of which has a line break in it.
    fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.code_of(&parts.join(&b'\n'))
    }

    fn code_of(&self, message: &[u8]) -> [u8; 32] {
        standard_webhooks::code(&self.0, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::{MapConfig, MemoryKeyValue, SetClock, block_on};

    #[test]
    fn only_the_signature_of_this_service_and_job_verifies() {
        let key = WebhookKey::new("secret");
        let signature = key.sign("kling", "task_1_a");
        assert!(key.verifies("kling", "task_1_a", &signature));
        assert!(!key.verifies("gemini", "task_1_a", &signature));
        assert!(!key.verifies("kling", "task_1_b", &signature));
        assert!(!key.verifies("kling", "task_1_a", &signature[1..]));
        assert!(!key.verifies("kling", "task_1_a", ""));
        assert!(!WebhookKey::new("other").verifies("kling", "task_1_a", &signature));
    }

    #[test]
    fn after_a_change_of_keys_old_signatures_stay_valid() {
        let old = WebhookKey::new("old").sign("kling", "task_1_a");
        let key = WebhookKey::new("new").with_previous("old");
        let new = key.sign("kling", "task_1_a");
        assert_eq!(new, WebhookKey::new("new").sign("kling", "task_1_a"));
        let third = WebhookKey::new("third").sign("kling", "task_1_a");
        for signature in [&old, &new] {
            assert!(key.verifies("kling", "task_1_a", signature));
            assert!(!key.verifies("kling", "task_1_b", signature));
            assert!(!key.verifies("gemini", "task_1_a", signature));
            assert!(!key.verifies("kling", "task_1_a", &signature[..63]));
            assert!(!key.verifies("kling", "task_1_a", &signature[1..]));
            assert!(!key.verifies("kling", "task_1_a", &format!("{signature}0")));
        }
        for wrong in [third.as_str(), "", &format!("{old}{new}")] {
            assert!(!key.verifies("kling", "task_1_a", wrong), "{wrong}");
        }
        // The former key may be the same as the current one.
        let same = WebhookKey::new("old").with_previous("old");
        assert!(same.verifies("kling", "task_1_a", &old));
        // A key that is no longer set verifies nothing.
        assert!(!WebhookKey::new("new").verifies("kling", "task_1_a", &old));
    }

    #[test]
    fn a_notification_is_signed_with_the_secret_of_each_key() {
        let sign = |key: &WebhookKey| key.sign_notification("task_1_a", "id", 7, b"body");
        let (old, new) = (WebhookKey::new("old"), WebhookKey::new("new"));
        let expected = [sign(&new), sign(&old)].concat();
        assert_eq!(expected.len(), 2);
        let both = WebhookKey::new("new").with_previous("old");
        assert_eq!(sign(&both), expected);
        let secret = both.notification_secret("task_1_a");
        assert_eq!(secret, new.notification_secret("task_1_a"));
        // Each task and each key has a secret of its own, with which the agent checks a signature.
        assert_ne!(secret, old.notification_secret("task_1_a"));
        assert_ne!(secret, both.notification_secret("task_1_b"));
        let checked = Key(secret.to_vec()).code_of(b"id.7.body");
        assert_eq!(expected[0], checked);
    }

    #[test]
    fn development_makes_a_key_once_and_a_deployment_none() {
        let (store, clock) = (MemoryKeyValue::default(), SetClock::default());
        let deployment = MapConfig::from_pairs(&[("environment", "production")]);
        let refused = block_on(WebhookKey::obtain(&deployment, &store, &clock));
        assert!(matches!(refused, Err(KeyError::NotSet)));
        let config = MapConfig::default();
        let first = block_on(WebhookKey::obtain(&config, &store, &clock)).unwrap();
        let second = block_on(WebhookKey::obtain(&config, &store, &clock)).unwrap();
        assert_eq!(first.sign("kling", "j"), second.sign("kling", "j"));
        let set = MapConfig::from_pairs(&[("webhook_key", "given")]);
        let given = block_on(WebhookKey::obtain(&set, &store, &clock)).unwrap();
        assert_ne!(first.sign("kling", "j"), given.sign("kling", "j"));
        // The former key verifies, wherever the current one comes from.
        let old = WebhookKey::new("old").sign("kling", "j");
        let previous = ("webhook_key_previous", "old");
        for settings in [vec![previous], vec![previous, ("webhook_key", "given")]] {
            let config = MapConfig::from_pairs(&settings);
            let key = block_on(WebhookKey::obtain(&config, &store, &clock)).unwrap();
            assert!(key.verifies("kling", "j", &old), "{settings:?}");
            assert_ne!(key.sign("kling", "j"), old);
        }
        assert!(!first.verifies("kling", "j", &old));
    }

    #[test]
    fn no_key_is_made_while_the_one_that_is_set_cannot_be_read() {
        let (store, clock) = (MemoryKeyValue::default(), SetClock::default());
        for unreadable in ["webhook_key", "webhook_key_previous"] {
            let config = MapConfig::from_pairs(&[("webhook_key", "given")]);
            let config = config.with_unreadable(unreadable);
            let refused = block_on(WebhookKey::obtain(&config, &store, &clock));
            assert!(
                matches!(refused, Err(KeyError::Unreadable(_))),
                "{unreadable}"
            );
        }
        assert!(block_on(store.get(STORED)).unwrap().is_none());
    }
}
