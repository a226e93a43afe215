//! The declaration of routes, and the search for the route of a request. The list of all routes is in
//! [`crate::routes`].

use percent_encoding::percent_decode_str;
use problem::Problem;

/// The requirement of a route for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The route requires nothing: every caller may use it.
    Nothing,
    /// The signature in a callback's address, which the component checks.
    Signature,
    /// A principal: a user, an agent with a token, or the trusted backend.
    Principal,
    /// A principal that may read the project.
    Read,
    /// A principal that may write the project.
    Write,
    /// The project's owner.
    Own,
    /// The project's owner, or the user that the path names as `{user}` if they may read the project.
    OwnOrSelf,
    /// The internal token. All routes below `/internal/` require it, and no others.
    Relay,
}

impl Need {
    /// Returns whether the caller must be a principal.
    pub(crate) const fn is_of_principal(self) -> bool {
        !matches!(self, Self::Nothing | Self::Signature | Self::Relay)
    }
}

/// The place in a request that names the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectSource {
    /// The request names no project: the route concerns none, or all projects of the caller.
    Nowhere,
    /// The path names it, as `{project}`.
    Path,
    /// The path names it, as `{project}`. A project that does not exist may be made by opening it.
    Opens,
    /// The body names it, or the row to which the path leads. The component checks access to it.
    FromRow,
}

/// A difference of a route from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The route answers even if settings are missing, because its answer says so.
    Unready,
    /// The route does not check the database's schema, which saves every edit one statement.
    TrustsSchema,
    /// A relay may also ask on a line.
    OnLine,
    /// The route uses no port but the settings. A component of such routes links no other port.
    SettingsOnly,
}

/// A route: one method of one path.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The component that serves it, as `spin.toml` calls it.
    pub component: &'static str,
    /// The name of the route's variant.
    pub name: &'static str,
    /// The purpose of the route, in a sentence.
    pub about: &'static str,
    /// The method. HEAD goes with each GET.
    pub method: &'static str,
    /// The path. `{name}` stands for one part that is not empty, a final `{name...}` for any rest.
    pub path: &'static str,
    /// The names of the path's parts in braces, in their order.
    pub fields: &'static [&'static str],
    /// The requirement for the caller.
    pub need: Need,
    /// The place that names the route's project.
    pub project_source: ProjectSource,
    /// The differences of the route from others, if any.
    pub marks: &'static [Mark],
}

/// The routes of one component.
pub trait Routes: Sized {
    /// The declarations of all of them.
    const SPECS: &'static [Spec];

    /// The needs of the routes. The door does each of these things only if its constant here is true, so that
    /// a component links no code, and reads no settings, that its routes do not need.
    const NEEDS: Needs = Needs::of(Self::SPECS);

    /// The route of one of [`Routes::SPECS`] with the parts of the path that stand in braces.
    fn of(spec: &Spec, parts: Vec<String>) -> Option<Self>;
}

/// The parts of the door that the routes of a component need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// A principal for some route.
    pub(crate) principal: bool,
    /// A project that is made by opening it, for some route.
    pub(crate) opening: bool,
    /// The internal token for some route.
    pub(crate) token: bool,
    /// The headers for browsers, because some route is public.
    pub(crate) browsers: bool,
    /// The ports other than the settings, for some route.
    pub(crate) ports: bool,
}

impl Needs {
    const fn of(specs: &[Spec]) -> Self {
        let mut needs = Self {
            principal: false,
            opening: false,
            token: false,
            browsers: false,
            ports: false,
        };
        let mut at = 0;
        while at < specs.len() {
            let spec = &specs[at];
            needs.principal |= spec.need.is_of_principal();
            needs.opening |= matches!(spec.project_source, ProjectSource::Opens);
            needs.token |= matches!(spec.need, Need::Relay);
            needs.browsers |= !matches!(spec.need, Need::Relay);
            needs.ports |= !matches!(spec.marks, [Mark::SettingsOnly]);
            at += 1;
        }
        needs
    }
}

/// Declares the routes of a component: an enum with a variant for each, and their [`Spec`]s.
macro_rules! routes {
    ($(
        $(#[doc = $doc:literal])+
        $component:ident = $id:literal {
            $(
                $(#[doc = $about:literal])+
                $variant:ident $({ $($field:ident),+ })? =
                    $method:ident $path:literal, $need:ident, $project_source:ident $(, $mark:ident)*;
            )+
        }
    )+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            #[allow(missing_docs)] // The fields have the names of the path's parts.
            pub enum $component {
                $($(#[doc = $about])+ $variant $({ $($field: String),+ })?,)+
            }

            impl Routes for $component {
                const SPECS: &'static [Spec] = &[$(Spec {
                    component: $id,
                    name: stringify!($variant),
                    about: concat!($($about),+),
                    method: stringify!($method),
                    path: $path,
                    fields: &[$($(stringify!($field)),+)?],
                    need: Need::$need,
                    project_source: ProjectSource::$project_source,
                    marks: &[$(Mark::$mark),*],
                }),+];

                fn of(spec: &Spec, parts: Vec<String>) -> Option<Self> {
                    let mut parts = parts.into_iter();
                    $(if spec.name == stringify!($variant) {
                        return Some(Self::$variant $({ $($field: parts.next()?),+ })?);
                    })+
                    let _ = parts.next();
                    None
                }
            }
        )+

        /// The routes of all components.
        pub const ALL: &[&[Spec]] = &[$($component::SPECS),+];
    };
}
pub(crate) use routes;

/// A route that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) spec: &'static Spec,
    /// The parts of the path that stand in braces, percent-decoded.
    pub(crate) parts: Vec<String>,
}

impl Found {
    /// A part of the path by its name; empty if the path has no such part.
    pub(crate) fn part(&self, name: &str) -> &str {
        let place = self.spec.fields.iter().position(|field| *field == name);
        place
            .and_then(|place| self.parts.get(place))
            .map_or("", String::as_str)
    }
}

/// Finds the route of a request among those of a component.
///
/// # Errors
/// 404 if no route has this path, 405 if its routes have other methods, and 400 if the path of a document names no
/// project.
pub(crate) fn find(specs: &'static [Spec], method: &str, path: &str) -> Result<Found, Problem> {
    let method = if method == "HEAD" { "GET" } else { method };
    for spec in specs {
        if spec.method == method
            && let Some(parts) = fits(spec.path, path)
        {
            return Ok(Found { spec, parts });
        }
    }
    let others = methods(specs, path);
    Err(if !others.is_empty() {
        Problem::method_not_allowed(&others)
    } else if path.starts_with("/sync/") {
        Problem::bad_project_id()
    } else {
        Problem::not_found()
    })
}

/// The methods that a path takes; none if no route has it.
pub(crate) fn methods(specs: &[Spec], path: &str) -> Vec<&'static str> {
    let fitting = specs.iter().filter(|spec| fits(spec.path, path).is_some());
    let mut methods: Vec<&str> = fitting.map(|spec| spec.method).collect();
    if let Some(get) = methods.iter().position(|method| *method == "GET") {
        methods.insert(get + 1, "HEAD");
    }
    methods
}

/// The parts in braces if the path fits the pattern.
fn fits(pattern: &str, path: &str) -> Option<Vec<String>> {
    if let Some((before, _)) = pattern.split_once("{")
        && pattern.ends_with("...}")
    {
        return Some(vec![path.strip_prefix(before)?.to_owned()]);
    }
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

/// A part of a path without its percent-encoding; `None` if the encoding is broken or the part is not text.
fn decoded(part: &str) -> Option<String> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    // The decoder lets a broken sequence stand as it is.
    let complete = part
        .split('%')
        .skip(1)
        .all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
    complete.then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{ALL, Console, Poller, Projects, Sync, Tasks, Webhooks};

    #[test]
    fn paths_lead_to_routes() {
        let document = |project: &str| Sync::Document {
            project: project.into(),
        };
        for (method, path, route) in [
            ("GET", "/sync/demo", Some(document("demo"))),
            ("HEAD", "/sync/demo", Some(document("demo"))),
            ("GET", "/sync/a%2Fb", Some(document("a/b"))),
            ("GET", "/sync/", None),
            ("GET", "/sync/%ff", None),
            ("GET", "/sync/%2", None),
            ("GET", "/sync/%", None),
            ("GET", "/sync/%g0", None),
            ("GET", "/sync/%0g", None),
            ("GET", "/", None),
        ] {
            let found = find(Sync::SPECS, method, path).ok();
            let found = found.and_then(|found| Sync::of(found.spec, found.parts));
            assert_eq!(found, route, "{method} {path}");
        }
        let found = find(Projects::SPECS, "PUT", "/projects/p/members/a%40b%2Fc").unwrap();
        assert_eq!((found.part("project"), found.part("user")), ("p", "a@b/c"));
        assert_eq!(found.part("token"), "");
        let page = find(Console::SPECS, "GET", "/static/a-1.js").unwrap();
        assert_eq!(page.part("file"), "static/a-1.js");
        for (path, found) in [
            ("/projects", true),
            ("/projects/", false),
            ("/projects/p/q", false),
        ] {
            assert_eq!(find(Projects::SPECS, "GET", path).is_ok(), found, "{path}");
        }
        assert!(find(Tasks::SPECS, "GET", "/tasks//cancel").is_err());
    }

    #[test]
    fn a_path_without_a_route_gets_the_reason() {
        let status = |method, path| find(Sync::SPECS, method, path).unwrap_err();
        assert_eq!(status("GET", "/nowhere"), Problem::not_found());
        assert_eq!(status("GET", "/sync/a/b"), Problem::bad_project_id());
        let allowed = Problem::method_not_allowed(&["GET", "HEAD", "POST"]);
        assert_eq!(status("PUT", "/sync/p"), allowed);
        let methods = methods(Projects::SPECS, "/projects/p");
        assert_eq!(methods, ["GET", "HEAD", "PATCH", "DELETE"]);
    }

    #[test]
    fn a_component_needs_what_one_of_its_routes_needs() {
        let needs = |needs: Needs| {
            let of_callers = [needs.principal, needs.opening, needs.token];
            (of_callers, needs.browsers, needs.ports)
        };
        for (component, expected) in [
            (Sync::NEEDS, ([true, true, true], true, true)),
            (Projects::NEEDS, ([true, false, false], true, true)),
            (Tasks::NEEDS, ([true, false, true], true, true)),
            (Webhooks::NEEDS, ([false, false, false], true, true)),
            (Poller::NEEDS, ([true, false, true], true, true)),
            (Console::NEEDS, ([false, false, false], true, false)),
        ] {
            assert_eq!(needs(component), expected);
        }
    }

    #[test]
    fn the_list_is_in_order() {
        let all: Vec<&Spec> = ALL.iter().copied().flatten().collect();
        for (at, spec) in all.iter().enumerate() {
            let braces = spec
                .path
                .split('/')
                .filter_map(|part| part.strip_prefix('{'));
            let braces = braces.map(|part| part.trim_end_matches('}').trim_end_matches("..."));
            assert!(braces.eq(spec.fields.iter().copied()), "{spec:?}");
            let internal = spec.path.starts_with("/internal/");
            assert_eq!(spec.need == Need::Relay, internal, "{spec:?}");
            let in_path = matches!(
                spec.project_source,
                ProjectSource::Path | ProjectSource::Opens
            );
            assert!(!in_path || spec.fields.contains(&"project"), "{spec:?}");
            let by_role = matches!(
                spec.need,
                Need::Read | Need::Write | Need::Own | Need::OwnOrSelf
            );
            assert_eq!(
                by_role,
                spec.project_source != ProjectSource::Nowhere,
                "{spec:?}"
            );
            let twice = all[..at]
                .iter()
                .any(|other| (other.method, other.path) == (spec.method, spec.path));
            assert!(!twice, "{spec:?} is there twice");
        }
    }
}
