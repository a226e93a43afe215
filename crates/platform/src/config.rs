//! Settings.

use thiserror::Error;

/// Reads settings by name, such as `internal_token`. On Spin they are the application's variables.
pub trait Config {
    /// Reads a setting; `None` if it is not set or empty.
    ///
    /// # Errors
    /// When it cannot be read, which says nothing about whether it is set. What a setting protects stays shut then.
    fn read(&self, name: &str) -> Result<Option<String>, UnreadableSetting>;

    /// The value of a setting that protects nothing; `None` if it is not set, empty, or cannot be read.
    fn get(&self, name: &str) -> Option<String> {
        self.read(name).unwrap_or_else(|error| {
            tracing::warn!(setting = name, reason = error.reason, "setting not read");
            None
        })
    }

    /// Whether `environment` was read and is the word `development`. Anything else is a deployment.
    fn is_development(&self) -> bool {
        matches!(self.read("environment"), Ok(Some(environment)) if environment == "development")
    }
}

/// A setting cannot be read: its provider failed, or the component does not list it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the setting `{name}` cannot be read: {reason}")]
pub struct UnreadableSetting {
    /// The setting.
    pub name: String,
    /// The host's words, for the log alone.
    pub reason: String,
}
