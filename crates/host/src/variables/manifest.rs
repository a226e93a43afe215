//! The part of the manifest: the application's variables, and templates over them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::names;

/// An application variable. It has a default, or the operator must give it a value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    /// The value if the operator gives none.
    pub(crate) default: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default, rename = "secret")]
    _secret: bool,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

/// The application variables by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared(BTreeMap<String, Variable>);

impl Declared {
    /// Checks names, and that each variable either has a default or is required.
    pub(crate) fn check(variables: BTreeMap<String, Variable>) -> Result<Self, String> {
        for (name, variable) in &variables {
            names::check_variable(name).map_err(|e| format!("variables: {e}"))?;
            if variable.required == variable.default.is_some() {
                return Err(format!(
                    "variables.{name}: must be `required` or have a `default`, not both"
                ));
            }
        }
        Ok(Self(variables))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Variable)> {
        self.0.iter()
    }

    /// Splits `text` into a template whose names are all declared.
    pub(crate) fn template(&self, text: &str) -> Result<Template, String> {
        let template = Template::parse(text)?;
        if let Some(name) = template.names().find(|name| !self.has(name)) {
            return Err(format!("unknown variable {name:?} in {text:?}"));
        }
        Ok(template)
    }

    /// The template's text with all defaults in it; `None` if a variable has no default.
    pub(crate) fn by_default(&self, template: &Template) -> Option<String> {
        template.resolve(|name| self.0.get(name).and_then(|v| v.default.clone()))
    }
}

/// A text with `{{ name }}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

impl Template {
    /// Splits `text`; a `{{` without its `}}` is an error.
    fn parse(text: &str) -> Result<Self, String> {
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
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Returns whether it names no variable.
    pub(crate) fn is_literal(&self) -> bool {
        self.names().next().is_none()
    }

    /// The text with every variable's value in it; `None` if `value` has none for one of them.
    pub(crate) fn resolve(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.clone()),
                Part::Name(name) => value(name),
            })
            .collect()
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
}
