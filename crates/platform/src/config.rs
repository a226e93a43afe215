//! Settings.

use std::{cell::RefCell, collections::BTreeMap};

use problem::Problem;
use thiserror::Error;

/// Reads settings by name, such as `internal_token`. On Spin they are the application's variables.
pub trait Config {
    /// Reads a setting; `None` if it is not set or empty.
    ///
    /// # Errors
    /// If the setting cannot be read. It may be set all the same, so access that it protects stays closed.
    fn read(&self, name: &str) -> Result<Option<String>, UnreadableSetting>;

    /// Reads a setting that protects no access; `None` if it is not set, empty, or cannot be read.
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
    /// The name of the setting.
    pub name: String,
    /// The reason in the host's words, for the log alone.
    pub reason: String,
}

impl From<UnreadableSetting> for Problem {
    fn from(error: UnreadableSetting) -> Self {
        tracing::error!(
            setting = error.name.as_str(),
            reason = error.reason,
            "setting not read"
        );
        Self::unavailable("A setting of the server cannot be read.")
    }
}

/// Settings that are each read once, because a provider may be a service on the network.
#[derive(Debug)]
pub struct ReadOnce<C> {
    inner: C,
    values: RefCell<BTreeMap<String, Reading>>,
}

type Reading = Result<Option<String>, UnreadableSetting>;

impl<C> ReadOnce<C> {
    /// Wraps the settings that `inner` reads.
    pub fn new(inner: C) -> Self {
        Self {
            inner,
            values: RefCell::default(),
        }
    }
}

impl<C: Config> Config for ReadOnce<C> {
    fn read(&self, name: &str) -> Reading {
        if let Some(value) = self.values.borrow().get(name) {
            return value.clone();
        }
        let value = self.inner.read(name);
        let mut values = self.values.borrow_mut();
        values.insert(name.to_owned(), value.clone());
        value
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Counted(Cell<u32>);

    impl Config for Counted {
        fn read(&self, name: &str) -> Reading {
            self.0.set(self.0.get() + 1);
            match name {
                "set" => Ok(Some("value".into())),
                "unset" => Ok(None),
                _ => Err(UnreadableSetting {
                    name: name.to_owned(),
                    reason: "away".into(),
                }),
            }
        }
    }

    #[test]
    fn each_setting_is_read_once() {
        let config = ReadOnce::new(Counted(Cell::new(0)));
        for _ in 0..2 {
            assert_eq!(config.read("set"), Ok(Some("value".into())));
            assert_eq!(config.read("unset"), Ok(None));
            assert!(config.read("broken").is_err());
        }
        assert_eq!(config.inner.0.get(), 3);
        assert!(!config.is_development());
    }
}
