//! Every public route of the app, and what it wants of whoever asks.
//!
//! Nothing else is served: a component asks [`find`] first, and goes by what it finds.

use crate::Denied;

/// What a route wants of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody may.
    Nothing,
    /// The signature in a callback's address.
    Signature,
    /// To be somebody.
    Somebody,
    /// To be allowed to see the project.
    Read,
    /// To be allowed to change the project.
    Write,
    /// To own the project.
    Own,
    /// To own the project, or to be the user whom the path names and may read it.
    OwnOrSelf,
}

/// Where a route's project is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Nowhere: it is about no project, or about all of somebody's.
    Nothing,
    /// In the path, as `{project}`.
    Project,
    /// In the path too, and a project that is not there may be made by opening it.
    Opens,
    /// In the body, or in the row that the path leads to; a row of another project is not there.
    Row,
}

/// A route: a path and a method of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method; a HEAD goes with each GET.
    pub method: &'static str,
    /// The path; a part in braces stands for any that is not empty.
    pub path: &'static str,
    /// What it wants.
    pub need: Need,
    /// Where its project is named.
    pub names: Names,
}

const fn route(method: &'static str, path: &'static str, need: Need, names: Names) -> Route {
    Route {
        method,
        path,
        need,
        names,
    }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    route("GET", "/health", Need::Nothing, Names::Nothing),
    route("GET", "/sync/{project}", Need::Read, Names::Opens),
    route("POST", "/sync/{project}", Need::Write, Names::Opens),
    route("GET", "/projects", Need::Somebody, Names::Nothing),
    route("POST", "/projects", Need::Somebody, Names::Nothing),
    route("GET", "/projects/{project}", Need::Read, Names::Project),
    route("PATCH", "/projects/{project}", Need::Own, Names::Project),
    route("DELETE", "/projects/{project}", Need::Own, Names::Project),
    route(
        "PUT",
        "/projects/{project}/members/{user}",
        Need::Own,
        Names::Project,
    ),
    route(
        "DELETE",
        "/projects/{project}/members/{user}",
        Need::OwnOrSelf,
        Names::Project,
    ),
    route(
        "GET",
        "/projects/{project}/tokens",
        Need::Own,
        Names::Project,
    ),
    route(
        "POST",
        "/projects/{project}/tokens",
        Need::Own,
        Names::Project,
    ),
    route(
        "DELETE",
        "/projects/{project}/tokens/{token}",
        Need::Own,
        Names::Project,
    ),
    route("GET", "/tasks", Need::Somebody, Names::Nothing),
    route("POST", "/tasks", Need::Write, Names::Row),
    route("GET", "/tasks/{task}", Need::Read, Names::Row),
    route("POST", "/tasks/{task}/cancel", Need::Write, Names::Row),
    route("POST", "/tasks/{task}/retry", Need::Write, Names::Row),
    route("GET", "/assets/{asset}", Need::Read, Names::Row),
    route(
        "POST",
        "/webhooks/{service}",
        Need::Signature,
        Names::Nothing,
    ),
];

/// A route that was found, with the parts of the path that stand in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The route.
    pub route: &'static Route,
    /// In their order.
    pub parts: Vec<String>,
}

impl Found {
    /// A part of the path, by its place among those in braces; empty where there is none.
    pub fn part(&self, index: usize) -> &str {
        self.parts.get(index).map_or("", String::as_str)
    }
}

/// The route of a path and a method. The parts are percent-decoded.
///
/// # Errors
/// Where there is none, or only for other methods.
pub fn find(method: &str, path: &str) -> Result<Found, Denied> {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut others = Vec::new();
    for route in ROUTES {
        let Some(parts) = fits(route.path, path) else {
            continue;
        };
        if route.method == method {
            return Ok(Found { route, parts });
        }
        others.push(route.method);
    }
    Err(not_found(path, others))
}

fn not_found(path: &str, others: Vec<&'static str>) -> Denied {
    match others {
        // What should name a project does not.
        others if others.is_empty() && path.starts_with("/sync/") => Denied::BadProjectId,
        others if others.is_empty() => Denied::NoSuchRoute,
        others => Denied::Method(with_head(others)),
    }
}

/// The methods of a path, for a preflight.
pub fn methods(path: &str) -> Vec<&'static str> {
    let fitting = ROUTES.iter().filter(|r| fits(r.path, path).is_some());
    with_head(fitting.map(|route| route.method).collect())
}

fn with_head(mut methods: Vec<&'static str>) -> Vec<&'static str> {
    if let Some(get) = methods.iter().position(|method| *method == "GET") {
        methods.insert(get + 1, "HEAD");
    }
    methods
}

fn fits(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parts),
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {
                parts.push(decoded(given)?);
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

/// `None` where it is no text.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_routes() {
        for (method, path, found) in [
            ("GET", "/sync/demo", Some(("/sync/{project}", vec!["demo"]))),
            (
                "HEAD",
                "/sync/demo",
                Some(("/sync/{project}", vec!["demo"])),
            ),
            (
                "PUT",
                "/projects/p/members/a%40b%2Fc",
                Some(("/projects/{project}/members/{user}", vec!["p", "a@b/c"])),
            ),
            ("GET", "/projects", Some(("/projects", vec![]))),
            ("GET", "/projects/", None),
            ("GET", "/tasks/t/cancel/x", None),
            ("GET", "/tasks//cancel", None),
            ("GET", "/", None),
            ("GET", "/tasks/%ff", None),
            ("GET", "/tasks/%2", None),
        ] {
            let got = find(method, path).ok();
            let got = got.as_ref().map(|found| {
                let parts = found.parts.iter().map(String::as_str).collect();
                (found.route.path, parts)
            });
            assert_eq!(got, found, "{method} {path}");
        }
        assert!(
            matches!(find("PUT", "/sync/p"), Err(Denied::Method(m)) if m == ["GET", "HEAD", "POST"])
        );
        assert!(matches!(
            find("GET", "/sync/a/b"),
            Err(Denied::BadProjectId)
        ));
        assert!(matches!(find("GET", "/nowhere"), Err(Denied::NoSuchRoute)));
        assert_eq!(methods("/projects/p"), ["GET", "HEAD", "PATCH", "DELETE"]);
    }
}
