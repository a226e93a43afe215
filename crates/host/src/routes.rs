//! Routes: which component answers a path.
//!
//! The matching itself is the crate that Spin uses, so that the most specific route wins by the
//! same rules: an exact segment before `:name` before the trailing `/...`.

use routefinder::RouteSpec;

use crate::manifest::HttpTrigger;

/// A public route, e.g. `/sync/:project` or `/files/...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// As it stands in the manifest.
    pub raw: String,
    spec: String,
}

impl Route {
    /// Checks a route's syntax.
    pub fn parse(raw: &str) -> Result<Self, String> {
        if !raw.starts_with('/') {
            return Err(format!("{raw:?} must start with '/'"));
        }
        let (prefix, wildcard) = match raw.strip_suffix("/...").or_else(|| raw.strip_suffix("/*")) {
            Some(prefix) => (prefix, true),
            None => (raw.strip_suffix('/').unwrap_or(raw), false),
        };
        let mut names = std::collections::BTreeSet::new();
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
                return Err(format!("{raw:?} is no path"));
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

    /// The route with its parameters' names taken out: two routes with one shape would answer the
    /// same paths.
    fn shape(&self) -> String {
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

    /// The route without its trailing wildcard.
    pub fn prefix(&self) -> &str {
        self.raw.strip_suffix("/...").unwrap_or(&self.raw)
    }
}

/// All public routes of an application.
#[derive(Debug, Default)]
pub struct Router {
    routes: routefinder::Router<(Route, String)>,
}

/// What a path matched.
#[derive(Debug)]
pub struct Match<'a> {
    /// The component's id.
    pub component: &'a str,
    /// The matched route.
    pub route: &'a Route,
    /// What the trailing wildcard took, with its leading '/'; empty for none.
    pub rest: String,
    /// `:name` parameters with what they took.
    pub named: Vec<(String, String)>,
}

impl Router {
    /// Takes up the public routes; two that answer the same paths are refused.
    pub fn build(triggers: &[HttpTrigger]) -> Result<Self, String> {
        let mut router = Self::default();
        let mut seen = std::collections::BTreeMap::new();
        for trigger in triggers {
            let Some(route) = &trigger.route else {
                continue;
            };
            if let Some(other) = seen.insert(route.shape(), &trigger.component) {
                return Err(format!(
                    "trigger.http: route {:?} of component {:?} is taken by component {other:?} already",
                    route.raw, trigger.component
                ));
            }
            let spec: RouteSpec = route
                .spec
                .as_str()
                .try_into()
                .map_err(|e| format!("trigger.http: route {:?}: {e}", route.raw))?;
            router
                .routes
                .add(spec, (route.clone(), trigger.component.clone()))
                .map_err(|e| format!("trigger.http: route {:?}: {e}", route.raw))?;
        }
        Ok(router)
    }

    /// The component for `path` (no query), or `None`.
    pub fn find<'a>(&'a self, path: &str) -> Option<Match<'a>> {
        let found = self.routes.best_match(path)?;
        let (route, component) = found.handler();
        let captures = found.captures();
        let rest = match captures.wildcard() {
            Some("") | None => String::new(),
            Some(rest) => format!("/{rest}"),
        };
        let named = captures
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Some(Match {
            component,
            route,
            rest,
            named,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[&str]) -> Router {
        let triggers: Vec<_> = routes
            .iter()
            .map(|route| HttpTrigger {
                component: (*route).to_owned(),
                route: Some(Route::parse(route).unwrap()),
            })
            .collect();
        Router::build(&triggers).unwrap()
    }

    #[test]
    fn the_most_specific_route_wins() {
        let router = router(&[
            "/...",
            "/sync/:project",
            "/sync/all",
            "/sync/:project/...",
            "/health",
            "/",
        ]);
        for (path, route, rest) in [
            ("/", "/", ""),
            ("/health", "/health", ""),
            ("/health/", "/health", ""),
            ("/sync/all", "/sync/all", ""),
            ("/sync/p1", "/sync/:project", ""),
            ("/sync/p1/a/b", "/sync/:project/...", "/a/b"),
            ("/a/b.js", "/...", "/a/b.js"),
            ("/sync", "/...", "/sync"),
        ] {
            let found = router
                .find(path)
                .unwrap_or_else(|| panic!("{path} found nothing"));
            assert_eq!(
                (found.component, found.rest.as_str()),
                (route, rest),
                "{path}"
            );
        }
        assert_eq!(
            router.find("/sync/p1").unwrap().named,
            [("project".to_owned(), "p1".to_owned())]
        );
    }

    #[test]
    fn without_a_catch_all_some_paths_match_nothing() {
        let router = router(&["/health", "/sync/:project"]);
        for path in ["/", "/healthy", "/sync", "/sync/a/b"] {
            assert!(router.find(path).is_none(), "{path}");
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

    #[test]
    fn conflicting_routes_are_refused() {
        for pair in [
            ["/a", "/a"],
            ["/a", "/a/"],
            ["/:x", "/:y"],
            ["/a/...", "/a/*"],
        ] {
            let triggers = pair.map(|route| HttpTrigger {
                component: "c".into(),
                route: Some(Route::parse(route).unwrap()),
            });
            assert!(Router::build(&triggers).is_err(), "{pair:?}");
        }
    }
}
