//! The variables of the environment that set the relay, as a host that embeds it reads them.

use std::error::Error;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Command, CommandFactory, FromArgMatches};

use crate::{CommandLine, Settings};

/// The beginning of the variables' names.
const PREFIX: &str = "RELAY_";

/// The beginnings of names that Kubernetes sets by itself in the pods of a namespace with a service `relay`.
const OF_KUBERNETES: &[&str] = &["RELAY_SERVICE_", "RELAY_PORT"];

/// A variable whose value is not valid.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is {value:?}: {reason}")]
pub struct WrongVariable {
    /// The variable's name, or its flag.
    variable: String,
    value: String,
    reason: String,
}

impl Settings {
    /// The settings in the environment, and the defaults of the others.
    ///
    /// # Errors
    /// If a value is not valid.
    pub fn from_environment() -> Result<Self, WrongVariable> {
        let command = Self::augment_args(Command::new("relay"));
        let read = command.clone().try_get_matches_from(["relay"]);
        read.and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| wrong(&command, &error))
    }
}

/// The names among these that begin as the relay's do, and set nothing.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let command = CommandLine::command();
    let is_known = |name: &str| {
        let known = command.get_arguments().filter_map(clap::Arg::get_env);
        known.into_iter().any(|known| known == name)
            || OF_KUBERNETES.iter().any(|of| name.starts_with(of))
    };
    let mut unknown: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && !is_known(name))
        .collect();
    unknown.sort();
    unknown
}

/// Logs the variables of this process that begin as the relay's do, and set nothing: they may be mistyped.
pub fn warn_of_unknown_variables() {
    // A name that is not UTF-8 is not one of the relay's.
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in unknown_variables(names) {
        tracing::warn!("{name} has no effect: the relay has no such setting");
    }
}

/// Turns an error of clap, which names a flag, into one that names the flag's variable.
fn wrong(command: &Command, error: &clap::Error) -> WrongVariable {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let flag = text(ContextKind::InvalidArg);
    let long = flag.split_whitespace().next().unwrap_or_default();
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_long() == long.strip_prefix("--"));
    let variable = argument.and_then(|argument| argument.get_env()?.to_str().map(str::to_owned));
    WrongVariable {
        variable: variable.unwrap_or(flag),
        value: text(ContextKind::InvalidValue),
        reason: error
            .source()
            .map_or_else(|| error.kind().to_string(), ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_found_and_those_of_kubernetes_are_not() {
        let names = [
            "RELAY_MAX_WAITERS",
            "RELAY_LISTEN",
            "RELAY_MAX_WAITER",
            "RELAY_",
            "RELAY_PORT_8787_TCP_ADDR",
            "RELAY_SERVICE_HOST",
            "relay_app",
            "PATH",
        ];
        let unknown = unknown_variables(names.map(str::to_owned));
        assert_eq!(unknown, ["RELAY_", "RELAY_MAX_WAITER"]);
    }

    #[test]
    fn a_wrong_value_is_reported_once_by_the_name_of_its_variable() {
        let command = Settings::augment_args(Command::new("relay"));
        for (flag, value, words) in [
            (
                "--max-waiters",
                "many",
                "RELAY_MAX_WAITERS is \"many\": not a whole number from 1",
            ),
            (
                "--ping-interval",
                "5 parsecs",
                "RELAY_PING_INTERVAL is \"5 parsecs\": \"parsecs\" is not a unit of time: use ms, s, m or h",
            ),
        ] {
            let parsed = command.clone().try_get_matches_from(["relay", flag, value]);
            let error = wrong(&command, &parsed.unwrap_err());
            assert_eq!(error.to_string(), words);
            assert!(error.source().is_none());
        }
    }
}
