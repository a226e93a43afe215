//! The key-value store.

use async_trait::async_trait;
use thiserror::Error;

/// Keeps small values under a key. On Spin it is the store `default`.
#[async_trait(?Send)]
pub trait KeyValue {
    /// Reads the value under `key`, if there is one.
    ///
    /// # Errors
    /// If the store cannot be reached.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError>;

    /// Puts a value under `key`, in place of a former one.
    ///
    /// # Errors
    /// If the store cannot be reached or is full.
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError>;
}

/// A failure of the key-value store.
#[derive(Debug, Error)]
#[error("key-value store: {0}")]
pub struct KeyValueError(pub String);
