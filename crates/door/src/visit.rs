//! The way of a request through the door: admission, its handler, and the headers that every answer has.

use auth::{Denied, REFUSED_PAGE};
use platform::Ports;
use problem::{Kind, Problem};

use crate::{
    Admitted, Head, Headers, Mark, Reply, Routes,
    admit::admit,
    body::Body,
    readiness,
    route::{self, Found},
};

/// The header that names the caller to the relay, for its limits. The relay removes it from the answer.
pub const PRINCIPAL: &str = "x-loro-internal-principal";

/// A request that has arrived, with its route or the reason why it has none.
pub(crate) struct Arrival<'a> {
    pub(crate) head: Head,
    pub(crate) body: Body<'a>,
    pub(crate) found: Result<Found, Problem>,
}

impl<'a> Arrival<'a> {
    /// Looks up the route of a request.
    pub(crate) fn at<R: Routes>(head: Head, body: Body<'a>) -> Self {
        let found = route::find(R::SPECS, &head.method, head.path());
        Self { head, body, found }
    }

    /// Returns whether the route has this mark.
    pub(crate) fn has(&self, mark: Mark) -> bool {
        let found = self.found.as_ref();
        found.is_ok_and(|found| found.spec.marks.contains(&mark))
    }
}

/// Answers a request. The answer gets those of `headers` that it does not have.
pub(crate) async fn visit<'a, R: Routes>(
    ports: Ports<'a>,
    arrival: Arrival<'a>,
    headers: Headers,
    handler: impl AsyncFnOnce(Admitted<'a, R>) -> Result<Reply<'a>, Problem>,
) -> Reply<'a> {
    let head = &arrival.head;
    let is_for_browsers = R::NEEDS.browsers && !head.is_internal();
    let (is_head, page) = (head.is_head(), head.page());
    let mut principal = None;
    let reply = if is_for_browsers && head.method == "OPTIONS" {
        preflight::<R>(ports, head)
    } else {
        match admit::<R>(ports, arrival).await {
            Ok(admitted) => {
                principal = admitted.known().map(|principal| principal.name());
                handler(admitted).await
            }
            Err(problem) => Err(problem),
        }
    };
    let is_refused = reply.as_ref().is_err_and(is_refused_page);
    let reply = reply.unwrap_or_else(Reply::from);
    let reply = if is_head { reply.without_body() } else { reply };
    let reply = headers.iter().fold(reply, |reply, (name, value)| {
        reply.header_if_absent(name, *value)
    });
    if !is_for_browsers {
        return reply;
    }
    let reply = reply
        .header_if_absent("x-content-type-options", "nosniff")
        .header("vary", "origin");
    let cors = page.cors(ports.config, is_refused);
    let reply = cors.into_iter().fold(reply, add_if_absent);
    match principal {
        Some(principal) => reply.header(PRINCIPAL, principal),
        None => reply,
    }
}

/// Answers a preflight: whether the browser may let the page send a request, and with which methods.
fn preflight<'a, R: Routes>(ports: Ports<'_>, head: &Head) -> Result<Reply<'a>, Problem> {
    readiness::check(ports.config)?;
    let methods = route::methods(R::SPECS, head.path()).join(", ");
    if methods.is_empty() {
        return Err(Problem::not_found());
    }
    let page = head.page();
    let allowed = page.preflight(ports.config, &methods);
    let reply = Reply::empty(204).header("allow", methods);
    let reply = allowed.into_iter().fold(reply, add);
    Ok(match page.refused_origin(ports.config) {
        // The browser does not send the request whose answer would give the reason, so this answer carries it to the
        // relay's log.
        Some(advice) => {
            let denied = Problem::from(Denied::CrossSite(Some(advice)));
            let words = denied.header().map(|(_, words)| words.to_owned());
            reply.header(REFUSED_PAGE, words.unwrap_or_default())
        }
        None => reply,
    })
}

/// Returns whether a request was refused because of the page's origin, or of the name under which the page reached the
/// server.
fn is_refused_page(problem: &Problem) -> bool {
    [Kind::CROSS_SITE, Kind::FOREIGN_HOST].contains(&problem.kind())
}

fn add_if_absent<'a>(reply: Reply<'a>, (name, value): (&'static str, String)) -> Reply<'a> {
    reply.header_if_absent(name, value)
}

fn add<'a>(reply: Reply<'a>, (name, value): (&'static str, String)) -> Reply<'a> {
    reply.header(name, value)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
#[allow(clippy::unwrap_used)]
mod tests;
