//! Variables: the application's, the components' over them, and what a guest may ask for.
//!
//! A value comes from the first that has one: `--variable`, the environment's
//! `SPIN_VARIABLE_<NAME>`, the `.env` file beside the manifest, the manifest's default.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::bindings::variables as wit;
use crate::guest::Guest;
use crate::manifest::Manifest;

/// Text with `{{ name }}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

impl Template {
    /// Splits `text`; a `{{` without its `}}` is an error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let (before, after) = rest.split_at(start);
            let Some((name, after)) = after[2..].split_once("}}") else {
                return Err(format!("unmatched '{{{{' in {text:?}"));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Name(name.trim().to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The variables that it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Whether it names none.
    pub fn is_literal(&self) -> bool {
        self.names().next().is_none()
    }

    /// The text with every variable's value in it; `None` when `value` has none for one of them.
    pub fn resolve(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.clone()),
                Part::Name(name) => value(name),
            })
            .collect()
    }
}

/// The application's variables with their values. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Values given from outside, by source.
#[derive(Clone, Default)]
pub struct Given {
    command_line: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
}

const PREFIX: &str = "SPIN_VARIABLE_";

impl Given {
    /// Collects what `--variable`, the environment and the folder's `.env` give.
    pub fn collect(
        command_line: &[(String, String)],
        environment: impl IntoIterator<Item = (String, String)>,
        folder: &Path,
    ) -> Self {
        let from_environment = |(key, value): (String, String)| {
            key.strip_prefix(PREFIX)
                .map(|name| (name.to_ascii_lowercase(), value))
        };
        let dotenv = std::fs::read_to_string(folder.join(".env")).unwrap_or_default();
        Self {
            command_line: command_line.iter().cloned().collect(),
            environment: environment
                .into_iter()
                .filter_map(from_environment)
                .collect(),
            dotenv: dotenv
                .lines()
                .filter_map(dotenv_line)
                .filter_map(from_environment)
                .collect(),
        }
    }

    /// The value given for `name`, from the first source that has one.
    pub fn get(&self, name: &str) -> Option<&str> {
        [&self.command_line, &self.environment, &self.dotenv]
            .into_iter()
            .find_map(|source| source.get(name))
            .map(String::as_str)
    }
}

/// `KEY=value`, with an optional `export`, quotes and comments.
fn dotenv_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line
        .strip_prefix("export ")
        .unwrap_or(line)
        .split_once('=')?;
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote))
    });
    let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim_end());
    Some((key.trim().to_owned(), value.to_owned()))
}

impl Variables {
    /// Gives every variable of the manifest its value. One that is required and has none is an
    /// error; so is a value on the command line for a variable that the manifest lacks.
    pub fn resolve(manifest: &Manifest, given: &Given) -> Result<Self, String> {
        if let Some(unknown) = given
            .command_line
            .keys()
            .find(|name| !manifest.variables.contains_key(*name))
        {
            return Err(format!(
                "--variable {unknown}: the manifest has no such variable"
            ));
        }
        let mut values = BTreeMap::new();
        for (name, variable) in &manifest.variables {
            let value = given
                .get(name)
                .map(str::to_owned)
                .or_else(|| variable.default.clone());
            let Some(value) = value else {
                return Err(format!(
                    "variables.{name}: is required and has no value; set {PREFIX}{}",
                    name.to_ascii_uppercase()
                ));
            };
            values.insert(name.clone(), value);
        }
        Ok(Self { values })
    }

    /// An application variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Sets a variable that the manifest has; one that it lacks is left alone.
    pub fn set(&mut self, name: &str, value: String) {
        if let Some(slot) = self.values.get_mut(name) {
            *slot = value;
        }
    }

    /// A template's text. The manifest was checked, so every name has a value.
    pub fn text(&self, template: &Template) -> String {
        template
            .resolve(|name| Some(self.get(name).unwrap_or_default().to_owned()))
            .unwrap_or_default()
    }
}

/// What one component may read: its own variables by name.
pub type ComponentVariables = Arc<BTreeMap<String, String>>;

impl wit::Host for Guest {
    async fn get(&mut self, name: String) -> Result<String, wit::Error> {
        if let Some(value) = self.program.variables.get(&name) {
            return Ok(value.clone());
        }
        let bad = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if name.is_empty() || name.contains(bad) {
            return Err(wit::Error::InvalidName(name));
        }
        Err(wit::Error::Undefined(format!(
            "component {:?} has no variable {name:?}",
            self.program.id
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_values() {
        let value = |name: &str| (name == "host").then(|| "example.com".to_owned());
        for (text, expected) in [
            ("plain", Some("plain")),
            ("https://{{ host }}:443", Some("https://example.com:443")),
            ("{{host}}{{ host }}", Some("example.comexample.com")),
            ("{{ other }}", None),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.resolve(value).as_deref(), expected, "{text}");
        }
        assert!(Template::parse("{{ host").is_err());
    }

    #[test]
    fn the_first_source_wins() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join(".env"),
            "# a comment\nSPIN_VARIABLE_A=env file\nexport SPIN_VARIABLE_B=\"quoted # no comment\"\nSPIN_VARIABLE_C=c # comment\nOTHER=1\n",
        )
        .unwrap();
        let manifest = Manifest::parse(
            "spin_manifest_version = 2\n[application]\nname = \"x\"\n[trigger]\n[variables]\n\
             a = { default = \"da\" }\nb = { default = \"db\" }\nc = { required = true }\nd = { default = \"dd\" }",
            folder.path().to_owned(),
        )
        .unwrap();
        let environment = [("SPIN_VARIABLE_A".to_owned(), "environment".to_owned())];
        let given = Given::collect(
            &[("a".into(), "command line".into())],
            environment.clone(),
            folder.path(),
        );
        let variables = Variables::resolve(&manifest, &given).unwrap();
        let all = ["a", "b", "c", "d"].map(|name| variables.get(name).unwrap());
        assert_eq!(all, ["command line", "quoted # no comment", "c", "dd"]);

        let given = Given::collect(&[], environment, folder.path());
        assert_eq!(given.get("a"), Some("environment"));
        let nothing = Given::default();
        assert!(
            Variables::resolve(&manifest, &nothing)
                .unwrap_err()
                .contains("SPIN_VARIABLE_C")
        );
        let unknown = Given::collect(&[("z".into(), "1".into())], [], folder.path());
        assert!(
            Variables::resolve(&manifest, &unknown)
                .unwrap_err()
                .contains("z")
        );
        assert!(
            !format!("{variables:?}").contains("command line"),
            "values are not for logs"
        );
    }
}
