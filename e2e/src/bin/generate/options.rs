//! The tables of command-line options.

use clap::{Arg, Command, CommandFactory};

use crate::markdown::table;

/// The options of the relay.
pub(crate) fn relay() -> String {
    options(&relay::CommandLine::command())
}

/// The options of the local host.
pub(crate) fn host() -> String {
    options(&loro_host::cli::command())
}

fn options(command: &Command) -> String {
    // The options that `--help` hides are for tests alone.
    let public = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let rows = public.filter_map(|arg| {
        let name = arg.get_long()?;
        Some([format!("`--{name}`"), default(arg), about(arg)])
    });
    table(["Option", "Default", ""], rows)
}

fn default(arg: &Arg) -> String {
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .filter(|value| !value.is_empty())
        .collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        format!("`{}`", defaults.join(" "))
    } else if arg.get_action().takes_values() {
        "none".into()
    } else {
        "off".into()
    }
}

fn about(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    if values.is_empty() || !arg.get_action().takes_values() {
        return help;
    }
    let values: Vec<String> = values
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    format!("{help}: {}", values.join(", "))
}
