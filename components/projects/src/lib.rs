//! The component `projects`: projects, who may do what in them, and the tokens of agents.
//!
//! It only wires. After the answer, relays are told of what changed for those who are connected.

mod body;
mod member;
mod notice;
mod project;
mod token;

use auth::{door::Entered, visit};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};

use notice::Change;

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[http_component]
    async fn handle(request: IncomingRequest, out: ResponseOutparam) {
        log_to_stderr();
        let go_on = async |ports: Ports<'_>, change: Change| change.tell(ports).await;
        visit::serve(request.into(), out, route, go_on).await;
    }
}

type Answer = Result<(Reply, Option<Change>), Problem>;

async fn route(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let found = &entered.found;
    match (found.route.method, found.route.path) {
        ("GET", "/projects") => project::list(ports, entered, &request).await,
        ("POST", "/projects") => project::create(ports, entered, request).await,
        ("GET", "/projects/{project}") => project::get(ports, entered).await,
        ("PATCH", "/projects/{project}") => project::update(ports, entered, request).await,
        ("DELETE", "/projects/{project}") => project::delete(ports, entered).await,
        ("PUT", "/projects/{project}/members/{user}") => member::set(ports, entered, request).await,
        ("DELETE", "/projects/{project}/members/{user}") => member::remove(ports, entered).await,
        ("GET", "/projects/{project}/tokens") => token::list(ports, entered).await,
        ("POST", "/projects/{project}/tokens") => token::create(ports, entered, request).await,
        ("DELETE", "/projects/{project}/tokens/{token}") => token::revoke(ports, entered).await,
        _ => Err(Problem::not_found()),
    }
}
