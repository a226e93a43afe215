//! A request of a component, on its way through the door and out again.

use platform::{
    Ports, Problem,
    spin::{Incoming, Reply, SpinConfig, SpinPorts},
};
use spin_sdk::http::ResponseOutparam;

use crate::{
    Credentials, Principal,
    door::{self, Asked, Entered},
    internal,
    origins::Page,
    readiness, routes,
};

/// Serves a request of a component: passes the door, has `route` answer, sends that, and goes on with what need
/// not be waited for.
pub async fn serve<More>(
    request: Incoming,
    out: ResponseOutparam,
    route: impl AsyncFnOnce(Ports<'_>, &Entered, Incoming) -> Result<(Reply, Option<More>), Problem>,
    go_on: impl AsyncFnOnce(Ports<'_>, More),
) {
    let mut visit = Visit::of(&request);
    if let Some(reply) = visit.answer() {
        return visit.dress(reply).send(out).await;
    }
    let ports = match SpinPorts::open().await {
        Ok(ports) => ports,
        Err(error) => return visit.dress(Problem::from(error).into()).send(out).await,
    };
    let answer = match visit.enter(ports.all()).await {
        Ok(entered) => route(ports.all(), &entered, request).await,
        Err(problem) => Err(problem),
    };
    let (reply, more) = answer.unwrap_or_else(|problem| (problem.into(), None));
    visit.dress(reply).send(out).await;
    if let Some(more) = more {
        go_on(ports.all(), more).await;
    }
}

/// Checks that a request to an internal route may pass.
///
/// # Errors
/// 401, where it may not.
pub fn check_internal(request: &Incoming) -> Result<(), Problem> {
    let authorization = request.header("authorization");
    internal::check(&SpinConfig, authorization.as_deref(), &page(request))
}

fn page(request: &Incoming) -> Page {
    Page {
        origin: request.header("origin"),
        site: request.header("sec-fetch-site"),
        host: request
            .header("x-forwarded-host")
            .or_else(|| request.host()),
        reached: request.host(),
    }
}

/// The header that tells a relay who asked, for its limits. It goes no further than there.
pub const PRINCIPAL: &str = "x-loro-internal-principal";

/// What the door and the answer need of a request.
pub struct Visit {
    asked: Asked,
    principal: Option<String>,
}

impl Visit {
    /// Of this request.
    pub fn of(request: &Incoming) -> Self {
        let credentials = Credentials::new(
            request.joined("cookie", "; "),
            request.header("authorization").as_deref(),
            request.query("token"),
        );
        let page = page(request);
        Self {
            asked: Asked {
                method: request.method_name(),
                path: request.path().to_owned(),
                credentials,
                page,
            },
            principal: None,
        }
    }

    /// What can be answered without looking any further: that a setting is missing, and whether a browser
    /// may let a page ask.
    pub fn answer(&self) -> Option<Reply> {
        if let Err(problem) = readiness::check(&SpinConfig) {
            return Some(problem.into());
        }
        if self.asked.method != "OPTIONS" {
            return None;
        }
        let methods = routes::methods(&self.asked.path).join(", ");
        if methods.is_empty() {
            return Some(Problem::not_found().into());
        }
        let allowed = self.asked.page.preflight(&SpinConfig, &methods);
        let reply = Reply::new(204).without_body().header("allow", methods);
        Some(
            allowed
                .into_iter()
                .fold(reply, |reply, (name, value)| reply.header(name, value)),
        )
    }

    /// Passes the door.
    ///
    /// # Errors
    /// Where it may not.
    pub async fn enter(&mut self, ports: Ports<'_>) -> Result<Entered, Problem> {
        let entered = door::enter(ports, &self.asked).await?;
        self.principal = entered.principal.as_ref().map(Principal::name);
        Ok(entered)
    }

    /// An answer with the headers that every one has.
    pub fn dress(&self, reply: Reply) -> Reply {
        let mut reply = reply
            .header("x-content-type-options", "nosniff")
            .header("vary", "origin");
        for (name, value) in self.asked.page.cors(&SpinConfig) {
            reply = reply.header(name, value);
        }
        match &self.principal {
            Some(principal) => reply.header(PRINCIPAL, principal.as_str()),
            None => reply,
        }
    }
}
