//! The port from which the app reads its settings.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use problem::Problem;
use thiserror::Error;

use crate::{
    Form, Setting,
    setting::{Declaration, Preset},
};

crate::settings! {
    /// `development`, or any other word for a deployment. Until the settings that protect it are set, a deployment
    /// answers every request but `/health` with a 503 that names the missing one
    pub ENVIRONMENT = "environment", Value("development");
    /// The address at which users and services reach the relay, with the path if a proxy serves the relay below one. It
    /// is in callbacks, in notifications and in the addresses of results. `cargo xtask up` sets it
    pub PUBLIC_URL = "public_url", Value("http://127.0.0.1:8787"), Url;
    /// The largest body that the host takes, in MiB. The app refuses a larger upload, update or document with a reason; a
    /// document counts because it is read and stored whole. If it is below 16, give each relay the same as `--max-body`.
    /// `cargo xtask manifest` sets it for hosts that have such a limit
    MAX_BODY_MIB = "max_body_mib", Value("32"), Number(MOST_BODY_MIB);
    /// The seconds after which the host ends a request. The app gives up a submission to a service 3 s before that, and
    /// counts it as a try. `cargo xtask manifest` sets it for hosts that have such a limit
    MAX_HANDLER_SECONDS = "max_handler_seconds", Value("300"), Number(86_400);
    /// Says whether the host keeps the app from private networks: `blocked` or `open`. It changes no protection: if it is
    /// `open`, a relay that ticks logs at its start what is unprotected. Set it to `open` if Spin's runtime config blocks
    /// none. `cargo xtask manifest` sets it for hosts that block none
    PRIVATE_NETWORKS = "private_networks", Value("blocked");
}

/// The most MiB that a setting may allow a body: what an instance can hold.
const MOST_BODY_MIB: u32 = 1024;

/// The time that a request needs in addition to a call of a service.
const BESIDE: Duration = Duration::from_secs(3);

/// The warning about a host that does not block private networks.
const OPEN_NETWORKS: &str = "The host does not keep the app from private networks (`private_networks`). The app itself \
     refuses literal addresses of them, and names that can only lead there; any other name that a user gives for a picture \
     or a notification may lead to a private address that the host reaches.";

/// Returns the warnings for operators about what the app and its host do not protect.
pub fn unprotected(config: &dyn Config) -> Vec<String> {
    let networks = config.get(PRIVATE_NETWORKS);
    if networks.is_none_or(|networks| networks.trim() == "blocked") {
        return Vec::new();
    }
    vec![OPEN_NETWORKS.into()]
}

/// The most bytes of a body that the host takes.
pub fn max_body(config: &dyn Config) -> usize {
    usize::try_from(number(config, SETTINGS, MAX_BODY_MIB)).unwrap_or(usize::MAX) << 20
}

/// The time that the call of a service may take, in whole seconds, so that the host does not end the request first.
pub fn max_call(config: &dyn Config) -> Duration {
    let handler = number(config, SETTINGS, MAX_HANDLER_SECONDS);
    Duration::from_secs(handler.into())
        .saturating_sub(BESIDE)
        .max(Duration::from_secs(1))
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

    /// Returns whether `environment` was read and is the word `development`. Anything else is a deployment.
    fn is_development(&self) -> bool {
        matches!(self.read(ENVIRONMENT), Ok(Some(environment)) if environment == "development")
    }
}

/// Reads a setting that is [declared](crate::settings!) as a whole number. If it is not set, or is not such a number, its
/// declared value counts.
pub fn number(config: &dyn Config, declared: &[Declaration], setting: Setting) -> u32 {
    let declaration = declared.iter().find(|of| of.setting == setting);
    let (default, most) = match declaration.map(|of| (of.preset, of.form)) {
        Some((Preset::Value(default), Form::Number(most))) => (default.parse().unwrap_or(1), most),
        other => {
            tracing::error!(%setting, ?other, "a setting is not declared as a number");
            (1, u32::MAX)
        }
    };
    let Some(text) = config.get(setting) else {
        return default;
    };
    match text.trim().parse() {
        Ok(number) if (1..=most).contains(&number) => number,
        _ => {
            tracing::error!(%setting, most, default, "a setting is not a whole number within its bounds, so its default is used");
            default
        }
    }
}

/// The error of a setting that cannot be read: its provider failed, or the component does not list it.
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

/// Reads each setting once, because a provider may be a service on the network.
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

    mod made_up {
        crate::settings! {
            /// It has a value
            pub(super) SET = "set", Unset;
            /// It has none
            pub(super) UNSET = "unset", Unset;
            /// It cannot be read
            pub(super) BROKEN = "broken", Unset;
            /// It is a number
            pub(super) COUNT = "count", Value("5"), Number(7);
        }
    }
    use made_up::{BROKEN, COUNT, SET, UNSET};

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
    fn a_number_that_makes_no_sense_is_the_declared_one() {
        use crate::native::MapConfig;
        for (given, expected) in [
            (" 3 ", 3),
            ("7", 7),
            ("8", 5),
            ("0", 5),
            ("-1", 5),
            ("three", 5),
            ("", 5),
        ] {
            let config = MapConfig::from_pairs(&[("count", given)]);
            assert_eq!(
                number(&config, made_up::SETTINGS, COUNT),
                expected,
                "{given:?}"
            );
        }
        let unset = MapConfig::from_pairs(&[]);
        assert_eq!(number(&unset, made_up::SETTINGS, COUNT), 5);
    }

    #[test]
    fn a_host_limits_bodies_and_calls() {
        use crate::native::MapConfig;
        let none = MapConfig::from_pairs(&[]);
        assert_eq!(max_body(&none), 32 << 20);
        assert_eq!(max_call(&none), Duration::from_secs(297));
        let set = [("max_body_mib", "7"), ("max_handler_seconds", "30")];
        let set = MapConfig::from_pairs(&set);
        assert_eq!(
            (max_body(&set), max_call(&set)),
            (7 << 20, Duration::from_secs(27))
        );
        let least = MapConfig::from_pairs(&[("max_handler_seconds", "1")]);
        assert_eq!(max_call(&least), Duration::from_secs(1));
    }

    #[test]
    fn an_operator_is_warned_if_the_host_does_not_block_private_networks() {
        use crate::native::MapConfig;
        for (networks, told) in [("open", 1), ("no", 1), ("blocked", 0), ("", 0)] {
            let config = MapConfig::from_pairs(&[("private_networks", networks)]);
            assert_eq!(unprotected(&config).len(), told, "{networks:?}");
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
