//! The routes, which find the component that answers a path.
//!
//! The crate that Spin uses does the matching itself, so that the most specific route wins by the same rules: an exact
//! segment before `:name` before the trailing `/...`.

use std::collections::BTreeMap;

use routefinder::RouteSpec;

use super::manifest::{HttpTrigger, Route};

/// The routes of an application.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: routefinder::Router<(Route, String)>,
}

/// The route that a path matched.
#[derive(Debug)]
pub(crate) struct Match<'a> {
    /// The component's id.
    pub(crate) component: &'a str,
    /// The matched route.
    pub(crate) route: &'a Route,
    /// The part of the path that the trailing wildcard took, with its leading '/'; empty if there is none.
    pub(crate) rest: String,
    /// `:name` parameters with the segments that they took.
    pub(crate) named: Vec<(String, String)>,
}

impl Router {
    /// Builds the router. Two routes that answer the same paths are refused.
    pub(crate) fn build(triggers: &[HttpTrigger]) -> Result<Self, String> {
        let mut router = Self::default();
        let mut seen = BTreeMap::new();
        for trigger in triggers {
            let route = &trigger.route;
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

    /// The component for `path`, which is without the query.
    pub(crate) fn find<'a>(&'a self, path: &str) -> Option<Match<'a>> {
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
                route: Route::parse(route).unwrap(),
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
    fn conflicting_routes_are_refused() {
        for pair in [
            ["/a", "/a"],
            ["/a", "/a/"],
            ["/:x", "/:y"],
            ["/a/...", "/a/*"],
        ] {
            let triggers = pair.map(|route| HttpTrigger {
                component: "c".into(),
                route: Route::parse(route).unwrap(),
            });
            assert!(Router::build(&triggers).is_err(), "{pair:?}");
        }
    }
}
