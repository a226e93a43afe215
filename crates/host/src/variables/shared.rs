//! The part that the whole app shares: the values of its variables.
//!
//! A value comes from the first source that has one: `--variable`, the environment's `SPIN_VARIABLE_<NAME>`, the
//! `.env` file beside the manifest, the manifest's default.

use std::collections::BTreeMap;
use std::path::Path;

use platform::{Config, Setting, UnreadableSetting};

use super::manifest::{Declared, Template};

const PREFIX: &str = "SPIN_VARIABLE_";

/// The values that the operator gives, by source.
#[derive(Default)]
pub(crate) struct Given {
    command_line: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
}

impl Given {
    /// Collects what `--variable`, the environment and the folder's `.env` give. A `.env` that cannot be understood
    /// is an error, as on Spin.
    pub(crate) fn collect(
        command_line: &[(String, String)],
        environment: impl IntoIterator<Item = (String, String)>,
        folder: &Path,
    ) -> Result<Self, String> {
        let file = folder.join(".env");
        let dotenv = if file.exists() {
            dotenvy::from_path_iter(&file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| format!("{}: {error}", file.display()))?
        } else {
            Vec::new()
        };
        Ok(Self {
            command_line: command_line.iter().cloned().collect(),
            environment: environment.into_iter().filter_map(variable).collect(),
            dotenv: dotenv.into_iter().filter_map(variable).collect(),
        })
    }

    /// The variables of the environment and of `.env`, with their prefix, that give a value to a variable which is not
    /// declared, most likely because its name is misspelt.
    pub(crate) fn unknown(&self, declared: &Declared) -> Vec<String> {
        let names = self.environment.keys().chain(self.dotenv.keys());
        names
            .filter(|name| !declared.has(name))
            .map(|name| format!("{PREFIX}{}", name.to_ascii_uppercase()))
            .collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        [&self.command_line, &self.environment, &self.dotenv]
            .into_iter()
            .find_map(|source| source.get(name))
            .map(String::as_str)
    }
}

/// The variable that an environment variable gives a value to.
fn variable((key, value): (String, String)) -> Option<(String, String)> {
    let name = key.strip_prefix(PREFIX)?;
    Some((name.to_ascii_lowercase(), value))
}

/// The application's variables with their values. `Debug` shows only their names, because values may be secret.
#[derive(Clone, Default)]
pub(crate) struct Variables {
    values: BTreeMap<String, Value>,
}

#[derive(Clone)]
struct Value {
    text: String,
    /// Says whether the operator gave it.
    given: bool,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Variables {
    /// Gives every declared variable its value. A required variable without a value is an error, and so is a value on
    /// the command line for a variable that is not declared.
    pub(crate) fn resolve(declared: &Declared, given: &Given) -> Result<Self, String> {
        if let Some(unknown) = given.command_line.keys().find(|name| !declared.has(name)) {
            return Err(format!(
                "--variable {unknown}: the manifest has no such variable"
            ));
        }
        let mut values = BTreeMap::new();
        for (name, variable) in declared.iter() {
            let from_operator = given.get(name).map(str::to_owned);
            let given = from_operator.is_some();
            let Some(text) = from_operator.or_else(|| variable.default.clone()) else {
                return Err(format!(
                    "variables.{name}: is required and has no value; set {PREFIX}{}",
                    name.to_ascii_uppercase()
                ));
            };
            values.insert(name.clone(), Value { text, given });
        }
        Ok(Self { values })
    }

    /// A variable's value; empty if there is no such variable.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.values
            .get(name)
            .map_or("", |value| value.text.as_str())
    }

    /// A variable's value if the operator gave it.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?;
        value.given.then_some(value.text.as_str())
    }

    /// Sets a variable; one that is not declared is left alone.
    pub(crate) fn set(&mut self, name: &str, text: String) {
        if let Some(value) = self.values.get_mut(name) {
            value.text = text;
        }
    }

    /// A template's text. The manifest was checked, so every name has a value.
    pub(crate) fn text(&self, template: &Template) -> String {
        template
            .resolve(|name| Some(self.get(name).to_owned()))
            .unwrap_or_default()
    }
}

impl Config for Variables {
    fn read(&self, setting: Setting) -> Result<Option<String>, UnreadableSetting> {
        let text = self.get(setting.name());
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_source_wins() {
        let folder = tempfile::tempdir().unwrap();
        let dotenv = "# a comment\nSPIN_VARIABLE_A=env file\nexport SPIN_VARIABLE_B=\"quoted # no comment\"\n\
                      SPIN_VARIABLE_C=c # comment\nOTHER=1\n";
        let write = |text: &str| std::fs::write(folder.path().join(".env"), text).unwrap();
        write(&dotenv.replace("env file", "env-file"));
        let variables = "a = { default = \"da\" }\nb = { default = \"db\" }\nc = { required = true }\n\
                         d = { default = \"dd\" }";
        let declared = Declared::check(toml::from_str(variables).unwrap()).unwrap();
        let environment = [("SPIN_VARIABLE_A".to_owned(), "environment".to_owned())];
        let given = Given::collect(
            &[("a".into(), "command line".into())],
            environment.clone(),
            folder.path(),
        )
        .unwrap();
        let variables = Variables::resolve(&declared, &given).unwrap();
        let all = ["a", "b", "c", "d"].map(|name| variables.get(name));
        assert_eq!(all, ["command line", "quoted # no comment", "c", "dd"]);
        assert_eq!(variables.given("c"), Some("c"));
        assert_eq!(variables.given("d"), None);

        let given = Given::collect(&[], environment, folder.path()).unwrap();
        assert_eq!(given.get("a"), Some("environment"));
        let nothing = Given::default();
        let error = Variables::resolve(&declared, &nothing).unwrap_err();
        assert!(error.contains("SPIN_VARIABLE_C"), "{error}");
        let unknown = Given::collect(&[("z".into(), "1".into())], [], folder.path()).unwrap();
        let error = Variables::resolve(&declared, &unknown).unwrap_err();
        assert!(error.contains('z'), "{error}");
        write("SPIN_VARIABLE_D=1\nSPIN_VARIABLE_KLING_API_KYE=1\nPATH=1");
        let mistyped = Given::collect(&[], [], folder.path()).unwrap();
        assert_eq!(mistyped.unknown(&declared), ["SPIN_VARIABLE_KLING_API_KYE"]);
        assert!(
            !format!("{variables:?}").contains("command line"),
            "values are not for logs"
        );
        write("SPIN_VARIABLE_A='open");
        assert!(Given::collect(&[], [], folder.path()).is_err());
    }
}
