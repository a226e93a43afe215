//! Whether a callback comes from whom we gave its address to.
//!
//! Services do not sign what they send, so the address that they are given is signed instead: with an
//! HMAC-SHA256 of the service and the job. The key is the setting `webhook_key`; in development one is
//! made at first use and kept in the key-value store.
//!
//! A key is changed without losing callbacks that are still to come: `webhook_key_previous` is the one
//! before, which signs no addresses any more, but whose signatures are still right.

use std::time::Duration;

use hmac::{Hmac, Mac};
use platform::{Clock, Config, KeyValue, KeyValueError, UnreadableSetting};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// Where a key of our own is kept.
const STORED: &str = "webhook-key";

/// The key, and the one before. They are never shown.
pub struct WebhookKey {
    current: Key,
    previous: Option<Key>,
}

struct Key(Vec<u8>);

/// There is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A deployment must set one.
    #[error("`webhook_key` is not set")]
    NotSet,
    /// One may be set, but cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableSetting),
    /// The store of the development key failed.
    #[error(transparent)]
    Store(#[from] KeyValueError),
}

impl WebhookKey {
    /// This key, and none before.
    pub fn new(key: impl Into<Vec<u8>>) -> Self {
        Self {
            current: Key(key.into()),
            previous: None,
        }
    }

    /// The same, with the key before it.
    #[must_use]
    pub fn with_previous(self, key: impl Into<Vec<u8>>) -> Self {
        Self {
            previous: Some(Key(key.into())),
            ..self
        }
    }

    /// The key that the settings, or in development the store, has; it is made where there is none.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn obtain(
        config: &dyn Config,
        store: &dyn KeyValue,
        clock: &dyn Clock,
    ) -> Result<Self, KeyError> {
        let key = Self::new(current(config, store, clock).await?);
        Ok(match config.read("webhook_key_previous")? {
            Some(previous) => key.with_previous(previous),
            None => key,
        })
    }

    /// The signature of a service's callback address for a job, in hexadecimal.
    pub fn sign(&self, service: &str, job: &str) -> String {
        self.current.sign(service, job)
    }

    /// Whether a signature is the one of this service and job, with either key. Takes the same time
    /// whatever is wrong with it, and whichever key it is of.
    pub fn verifies(&self, service: &str, job: &str, signature: &str) -> bool {
        let is_right = self.keys().fold(Choice::from(0), |is_right, key| {
            let right = key.sign(service, job);
            is_right | right.as_bytes().ct_eq(signature.as_bytes())
        });
        is_right.into()
    }

    /// The secret that the agent of a task shares with us, from the time when the task is posted.
    pub fn notification_secret(&self, task_id: &str) -> [u8; 32] {
        self.current.notification_secret(task_id)
    }

    /// Signs what an agent is told, as Standard Webhooks says: `{id}.{timestamp}.{body}`. One signature
    /// with the task's secret of each key, for the agent has the one of the key that was current when
    /// the task was posted.
    pub fn sign_notification(
        &self,
        task_id: &str,
        id: &str,
        timestamp: i64,
        body: &[u8],
    ) -> Vec<[u8; 32]> {
        let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        self.keys()
            .map(|key| Key(key.notification_secret(task_id).to_vec()).code_of(&message))
            .collect()
    }

    /// The current one first.
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
    if let Some(key) = config.read("webhook_key")? {
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
    // Others may be making one at the same time, and the store has no way to put a value only where
    // there is none. The last one counts, for all: a moment later it is there.
    clock.sleep(Duration::from_millis(50)).await;
    Ok(store.get(STORED).await?.unwrap_or(key))
}

impl Key {
    fn sign(&self, service: &str, job: &str) -> String {
        let code = self.code(&[b"webhook", service.as_bytes(), job.as_bytes()]);
        code.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn notification_secret(&self, task_id: &str) -> [u8; 32] {
        self.code(&[b"notification", task_id.as_bytes()])
    }

    /// The code of several parts, none of which has a line break in it.
    fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.code_of(&parts.join(&b'\n'))
    }

    fn code_of(&self, message: &[u8]) -> [u8; 32] {
        // HMAC takes a key of any length.
        match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mut mac) => {
                mac.update(message);
                mac.finalize().into_bytes().into()
            }
            Err(_) => rand::random(),
        }
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
    fn after_a_change_of_keys_old_signatures_are_still_right() {
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
        // Once it is no longer the one before, it is over.
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
        assert_eq!(
            both.notification_secret("task_1_a"),
            new.notification_secret("task_1_a")
        );
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
        // The one before counts, wherever the current one comes from.
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
