//! The key-value store.

use async_trait::async_trait;
use thiserror::Error;

/// Keeps small values under a key. On Spin it is the store `default`.
#[async_trait(?Send)]
pub trait KeyValue {
    /// The value under `key`, if there is one.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError>;

    /// Puts a value under `key`, over what is there.
    ///
    /// # Errors
    /// When the store cannot be reached or is full.
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError>;

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn delete(&self, key: &str) -> Result<(), KeyValueError>;
}

/// The key-value store did not do what it was asked.
#[derive(Debug, Error)]
#[error("key-value store: {0}")]
pub struct KeyValueError(pub String);
