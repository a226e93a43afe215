//! The part of the manifest: the route of a component.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::manifest::typed::typed;

/// An HTTP trigger.
#[derive(Debug, Clone)]
pub(crate) struct HttpTrigger {
    /// The component's id.
    pub(crate) component: String,
    /// The route of the component.
    pub(crate) route: Route,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    route: toml::Value,
    executor: Option<toml::Value>,
}

impl HttpTrigger {
    /// Checks the trigger under `key`.
    pub(crate) fn parse(key: &str, component: String, table: toml::Table) -> Result<Self, String> {
        let config: Config = typed(key, table)?;
        if config.executor.is_some() {
            return Err(format!(
                "{key}.executor: this host calls components by wasi:http alone"
            ));
        }
        let route = match &config.route {
            toml::Value::String(route) => Route::parse(route),
            toml::Value::Table(table) if table.contains_key("private") => {
                Err("this host has no private routes".to_owned())
            }
            _ => Err("must be a string".to_owned()),
        };
        let route = route.map_err(|error| format!("{key}.route: {error}"))?;
        Ok(Self { component, route })
    }
}

/// A public route, e.g. `/sync/:project` or `/files/...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The route as it stands in the manifest.
    pub(crate) raw: String,
    /// The route in the syntax of `routefinder`.
    pub(crate) spec: String,
}

impl Route {
    /// Checks a route's syntax.
    pub(crate) fn parse(raw: &str) -> Result<Self, String> {
        if !raw.starts_with('/') {
            return Err(format!("{raw:?} must start with '/'"));
        }
        let (prefix, wildcard) = match raw.strip_suffix("/...").or_else(|| raw.strip_suffix("/*")) {
            Some(prefix) => (prefix, true),
            None => (raw.strip_suffix('/').unwrap_or(raw), false),
        };
        let mut names = BTreeSet::new();
        for segment in prefix.split('/').skip(1) {
            if segment.contains("...") || segment.contains('*') {
                return Err(format!(
                    "{raw:?}: the wildcard `/...` may only stand at the end"
                ));
            }
            if segment.is_empty() {
                return Err(format!("{raw:?} has an empty segment"));
            }
            if segment.contains(['?', '#', ' ']) {
                return Err(format!("{raw:?} is not a path"));
            }
            if let Some(name) = segment.strip_prefix(':') {
                if name.is_empty()
                    || !name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                {
                    return Err(format!(
                        "{raw:?}: {segment:?} needs a name of letters, digits, '-' and '_'"
                    ));
                }
                if !names.insert(name) {
                    return Err(format!("{raw:?} names {segment:?} twice"));
                }
            }
        }
        let spec = if wildcard {
            format!("{prefix}/*")
        } else {
            prefix.to_owned()
        };
        Ok(Self {
            raw: raw.to_owned(),
            spec,
        })
    }

    /// The route without the names of its parameters: two routes with one shape would answer the same paths.
    pub(crate) fn shape(&self) -> String {
        self.spec
            .split('/')
            .map(|segment| {
                if segment.starts_with(':') {
                    ":"
                } else {
                    segment
                }
            })
            .collect::<Vec<_>>()
            .join("/")
    }

    /// The route without its trailing wildcard. Spin, too, takes `/*` for a wildcard and leaves it here.
    pub(crate) fn prefix(&self) -> &str {
        self.raw.strip_suffix("/...").unwrap_or(&self.raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_written_in_two_ways() {
        for (route, spec, prefix) in [("/a/...", "/a/*", "/a"), ("/a/*", "/a/*", "/a/*")] {
            let route = Route::parse(route).unwrap();
            assert_eq!((route.spec.as_str(), route.prefix()), (spec, prefix));
        }
    }

    #[test]
    fn bad_routes_are_refused() {
        for route in [
            "", "a", "/a/.../b", "/.../b", "/a//b", "/a/:", "/a/:x/:x", "/a*b", "/a?b",
        ] {
            assert!(Route::parse(route).is_err(), "{route}");
        }
    }
}
