//! The tables of routes.

use door::{Need, Spec, routes::ALL};

use crate::markdown::table;

/// The routes of users, agents and services.
pub(crate) fn public() -> String {
    let public = specs().filter(|spec| spec.need != Need::Relay);
    let rows = public.map(|spec| [route(spec), who(spec.need).into(), about(spec)]);
    table(["Route", "Callers", ""], rows)
}

/// The routes between the parts of the app.
pub(crate) fn internal() -> String {
    let internal = specs().filter(|spec| spec.need == Need::Relay);
    table(
        ["Route", ""],
        internal.map(|spec| [route(spec), about(spec)]),
    )
}

fn specs() -> impl Iterator<Item = &'static Spec> {
    ALL.iter().copied().flatten()
}

fn route(spec: &Spec) -> String {
    format!("`{} {}`", spec.method, spec.path)
}

fn about(spec: &Spec) -> String {
    spec.about.trim().to_owned()
}

fn who(need: Need) -> &'static str {
    match need {
        Need::Nothing => "all",
        Need::Signature => "the service that got the address",
        Need::Principal => "users and tokens",
        Need::Read => "members",
        Need::Write => "members with `write`",
        Need::Own => "the owner",
        Need::OwnOrSelf => "the owner; a member, about themselves",
        Need::Relay => "the internal token",
    }
}
