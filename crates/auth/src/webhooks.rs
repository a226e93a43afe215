//! Whether a callback comes from whom we gave its address to.
//!
//! Services do not sign what they send, so the address that they are given is signed instead: with an
//! HMAC-SHA256 of the service and the job. The key is the setting `webhook_key`; in development one is
//! made at first use and kept in the key-value store.

use std::time::Duration;

use hmac::{Hmac, Mac};
use platform::{Clock, Config, KeyValue, KeyValueError};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Where a key of our own is kept.
const STORED: &str = "webhook-key";

/// The key. It is never shown.
pub struct WebhookKey(Vec<u8>);

/// There is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A deployment must set one.
    #[error("`webhook_key` is not set")]
    NotSet,
    /// The store of the development key failed.
    #[error(transparent)]
    Store(#[from] KeyValueError),
}

impl WebhookKey {
    /// This key.
    pub fn new(key: impl Into<Vec<u8>>) -> Self {
        Self(key.into())
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
        if let Some(key) = config.get("webhook_key") {
            return Ok(Self::new(key));
        }
        if !config.is_development() {
            return Err(KeyError::NotSet);
        }
        if let Some(key) = store.get(STORED).await? {
            return Ok(Self(key));
        }
        let key = rand::random::<[u8; 32]>().to_vec();
        store.set(STORED, key.clone()).await?;
        // Others may be making one at the same time, and the store has no way to put a value only where
        // there is none. The last one counts, for all: a moment later it is there.
        clock.sleep(Duration::from_millis(50)).await;
        Ok(Self(store.get(STORED).await?.unwrap_or(key)))
    }

    /// The signature of a service's callback address for a job, in hexadecimal.
    pub fn sign(&self, service: &str, job: &str) -> String {
        let code = self.code(&[b"webhook", service.as_bytes(), job.as_bytes()]);
        code.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a signature is the one of this service and job. Takes the same time whatever is wrong
    /// with it.
    pub fn verifies(&self, service: &str, job: &str, signature: &str) -> bool {
        let right = self.sign(service, job);
        right.as_bytes().ct_eq(signature.as_bytes()).into()
    }

    /// The secret that the agent of a task shares with us.
    pub fn notification_secret(&self, task_id: &str) -> [u8; 32] {
        self.code(&[b"notification", task_id.as_bytes()])
    }

    /// Signs what an agent is told, as Standard Webhooks says: `{id}.{timestamp}.{body}`.
    pub fn sign_notification(
        &self,
        task_id: &str,
        id: &str,
        timestamp: i64,
        body: &[u8],
    ) -> [u8; 32] {
        let secret = Self(self.notification_secret(task_id).to_vec());
        let head = format!("{id}.{timestamp}.");
        secret.code_of(&[head.as_bytes(), body].concat())
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
    }
}
