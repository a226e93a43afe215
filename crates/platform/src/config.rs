//! Settings.

use std::{cell::RefCell, collections::BTreeMap};

use problem::Problem;
use thiserror::Error;

use crate::Setting;

crate::settings! {
    /// `development`, or any other word for a deployment, which refuses to serve until its settings protect it: 503 that
    /// names the setting
    pub ENVIRONMENT = "environment", Value("development");
    /// The relay's address for users and services, with the path if a proxy serves the relay below one: for callbacks,
    /// notifications and the addresses of results. `cargo xtask up` sets it
    pub PUBLIC_URL = "public_url", Value("http://127.0.0.1:8787"), Url;
}

/// Reads settings. On Spin they are the application's variables.
pub trait Config {
    /// Reads a setting; `None` if it is not set or empty.
    ///
    /// # Errors
    /// If the setting cannot be read. It may be set all the same, so access that it protects stays closed.
    fn read(&self, setting: Setting) -> Result<Option<String>, UnreadableSetting>;

    /// Reads a setting that protects no access; `None` if it is not set, empty, or cannot be read.
    fn get(&self, setting: Setting) -> Option<String> {
        self.read(setting).unwrap_or_else(|error| {
            tracing::warn!(%setting, reason = error.reason, "a setting could not be read");
            None
        })
    }

    /// Whether `environment` was read and is the word `development`. Anything else is a deployment.
    fn is_development(&self) -> bool {
        matches!(self.read(ENVIRONMENT), Ok(Some(environment)) if environment == "development")
    }
}

/// A setting cannot be read: its provider failed, or the component does not list it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the setting `{name}` cannot be read: {reason}")]
pub struct UnreadableSetting {
    /// The name of the setting.
    pub name: &'static str,
    /// The reason in the host's words, for the log alone.
    pub reason: String,
}

impl From<UnreadableSetting> for Problem {
    fn from(error: UnreadableSetting) -> Self {
        tracing::error!(
            setting = error.name,
            reason = error.reason,
            "a setting could not be read"
        );
        Self::unavailable("A setting of the server cannot be read.")
    }
}

/// Settings that are each read once, because a provider may be a service on the network.
#[derive(Debug)]
pub struct ReadOnce<C> {
    inner: C,
    values: RefCell<BTreeMap<&'static str, Reading>>,
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
    fn read(&self, setting: Setting) -> Reading {
        if let Some(value) = self.values.borrow().get(setting.name()) {
            return value.clone();
        }
        let value = self.inner.read(setting);
        let mut values = self.values.borrow_mut();
        values.insert(setting.name(), value.clone());
        value
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[allow(dead_code)] // The list is for documented settings.
    mod made_up {
        crate::settings! {
            /// It has a value
            pub(super) SET = "set", Unset;
            /// It has none
            pub(super) UNSET = "unset", Unset;
            /// It cannot be read
            pub(super) BROKEN = "broken", Unset;
        }
    }
    use made_up::{BROKEN, SET, UNSET};

    struct Counted(Cell<u32>);

    impl Config for Counted {
        fn read(&self, setting: Setting) -> Reading {
            self.0.set(self.0.get() + 1);
            match setting {
                SET => Ok(Some("value".into())),
                UNSET => Ok(None),
                _ => Err(UnreadableSetting {
                    name: setting.name(),
                    reason: "away".into(),
                }),
            }
        }
    }

    #[test]
    fn each_setting_is_read_once() {
        let config = ReadOnce::new(Counted(Cell::new(0)));
        for _ in 0..2 {
            assert_eq!(config.read(SET), Ok(Some("value".into())));
            assert_eq!(config.read(UNSET), Ok(None));
            assert!(config.read(BROKEN).is_err());
        }
        assert_eq!(config.inner.0.get(), 3);
        assert!(!config.is_development());
    }
}
