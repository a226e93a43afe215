//! The admission of requests: each passes here before its handler runs.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
};

use auth::{
    Advice, Credentials, Denied, Grant, Principal, Role, internal, origins::Page, sessions,
};
use platform::{Ports, config::max_body};
use problem::Problem;
use serde_json::{Map, Value};

use crate::{
    Head, Mark, Message, Need, ProjectSource, Routes,
    body::{Body, Chunks, on_host},
    readiness,
    route::{self, Found},
    version,
    visit::Arrival,
};

/// The largest body of a request with JSON fields that are not a task's, in bytes.
const MAX_FIELDS: usize = 64 * 1024;

/// The bytes of a body that every host takes: the least that the setting `max_body_mib` can allow.
const FITS_EVERYWHERE: usize = 1024 * 1024;

/// A request that was let in. It is the only way to the ports: a handler without one reaches no database.
///
/// ```compile_fail,E0451
/// // Only the front door makes one.
/// fn forged(ports: platform::Ports<'_>) {
///     let admitted = door::Admitted { route: door::routes::Sync::Health, ports };
/// }
/// ```
/// ```compile_fail,E0603
/// // A handler cannot admit itself.
/// fn self_admitted(ports: platform::Ports<'_>) {
///     let admitted = door::admit::admit_message(ports, Vec::new());
/// }
/// ```
/// ```compile_fail,E0599
/// // A route alone has no ports.
/// fn without_admission(route: door::routes::Sync) {
///     let database = route.ports().database;
/// }
/// ```
/// ```
/// // With it, a handler has them.
/// fn handler(admitted: &door::Admitted<'_, door::routes::Sync>) {
///     let database = admitted.ports().database;
/// }
/// ```
pub struct Admitted<'a, R> {
    route: R,
    ports: Ports<'a>,
    head: Head,
    found: Option<Found>,
    credentials: Credentials,
    principal: RefCell<Option<Principal>>,
    body: Cell<Option<Body<'a>>>,
}

/// A check that is linked only if the component [`Needs`](crate::Needs) it. It is boxed, because an `async fn` has a
/// place in its state for each future that it may await, and that links the future's code.
type Check<'a, T> = Pin<Box<dyn Future<Output = Result<T, Denied>> + 'a>>;

impl<'a, R: Routes> Admitted<'a, R> {
    /// A request that may go to the route that was found for it.
    fn at(
        ports: Ports<'a>,
        head: Head,
        found: Found,
        body: Body<'a>,
        (credentials, principal): (Credentials, Option<Principal>),
    ) -> Result<Self, Problem> {
        let route = R::of(found.spec, found.parts.clone()).ok_or_else(Problem::not_found)?;
        Ok(Self {
            route,
            ports,
            head,
            found: Some(found),
            credentials,
            principal: RefCell::new(principal),
            body: Cell::new(Some(body)),
        })
    }

    /// The route, with the parts of the path.
    pub fn route(&self) -> &R {
        &self.route
    }

    /// The ports.
    pub fn ports(&self) -> Ports<'a> {
        self.ports
    }

    /// The request without its body.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The address by which the caller reached the server, without a slash at its end: for the addresses in an answer.
    pub fn base(&self) -> String {
        self.head.base(self.ports.config)
    }

    /// The `Location` of something that was made: this path, below the one at which the caller reached the server.
    pub fn location(&self, path: &str) -> String {
        let base = self.base();
        let (_, place) = base.split_once("://").unwrap_or_default();
        let below = place
            .find('/')
            .map_or("", |at| place.get(at..).unwrap_or_default());
        format!("{below}{path}")
    }

    /// The caller.
    ///
    /// # Errors
    /// 401 if the route requires no principal, because then none was identified.
    pub fn principal(&self) -> Result<Principal, Denied> {
        self.known().ok_or(Denied::Unauthenticated)
    }

    pub(crate) fn known(&self) -> Option<Principal> {
        self.principal.borrow().clone()
    }

    /// Reads the body, and then checks access again, because a body may take a minute and the caller may have lost
    /// access meanwhile.
    ///
    /// # Errors
    /// 413 if it has more than `limit` bytes, or more than the host takes, 408 and 400 if it does not arrive whole, and
    /// the errors of [`Self::check_again`].
    pub async fn body(&self, limit: usize) -> Result<Vec<u8>, Problem> {
        let body = self.body.take();
        let body = body.ok_or_else(|| Problem::bad_request("The body was read already."))?;
        // A small body fits every host, and need not cost the reading of a setting.
        let limit = match body.declared {
            Some(declared) if declared <= FITS_EVERYWHERE => limit,
            _ => on_host(limit, max_body(self.ports.config)),
        };
        let bytes = body.read(limit, self.ports.clock).await?;
        self.check_again().await?;
        Ok(bytes)
    }

    /// Takes the chunks of the body, which are read while the answer is sent.
    ///
    /// # Errors
    /// 400 if the body was read already.
    pub(crate) fn chunks(&self) -> Result<Chunks<'a>, Problem> {
        let body = self.body.take();
        body.map(|body| body.chunks)
            .ok_or_else(|| Problem::bad_request("The body was read already."))
    }

    /// Reads a body of a few JSON fields. An empty body has none.
    ///
    /// # Errors
    /// 400 if the body is not a JSON object, and the errors of [`Self::body`].
    pub async fn fields(&self) -> Result<Map<String, Value>, Problem> {
        let body = self.body(MAX_FIELDS).await?;
        if body.is_empty() {
            return Ok(Map::new());
        }
        object(&body)
    }

    /// Checks the caller's credentials and access again, after a wait in which a token may have been revoked, a session
    /// may have ended, or a member may have been removed.
    ///
    /// # Errors
    /// If the caller has lost access.
    pub async fn check_again(&self) -> Result<(), Denied> {
        if R::NEEDS.principal
            && let Some(found) = &self.found
            && found.spec.need.is_of_principal()
        {
            let entering: Check<'_, ()> = Box::pin(self.enter_again(found));
            entering.await?;
        }
        Ok(())
    }

    async fn enter_again(&self, found: &Found) -> Result<(), Denied> {
        let principal = self.credentials.principal(self.ports, sessions::KNOWN_FOR);
        let principal = principal.await?;
        if matches!(
            found.spec.project_source,
            ProjectSource::Path | ProjectSource::Opens
        ) {
            let grant = principal.access(self.ports, found.part("project")).await?;
            grant.require(needed(found, &principal))?;
        }
        self.principal.replace(Some(principal));
        Ok(())
    }
}

/// Reads a JSON object.
///
/// # Errors
/// 400 if the body is not a JSON object.
fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::bad_request("The body must be a JSON object.")),
    }
}

/// Admits or refuses a request. If the route names its project in the path, this includes access to the project.
///
/// # Errors
/// The answer to a refused request.
pub(crate) async fn admit<'a, R: Routes>(
    ports: Ports<'a>,
    arrival: Arrival<'a>,
) -> Result<Admitted<'a, R>, Problem> {
    let answers_anyway = arrival.has(Mark::Unready);
    let Arrival { head, body, found } = arrival;
    if !answers_anyway {
        readiness::check(ports.config)?;
    }
    let page = head.page();
    // This comes before any answer about the path, because a caller without the token must not learn which internal
    // routes exist.
    if R::NEEDS.token && head.is_internal() {
        internal::check(ports.config, head.header("authorization"), &page)?;
        version::check(&head)?;
    }
    let found = found?;
    let (credentials, principal) = if R::NEEDS.principal && found.spec.need.is_of_principal() {
        let entering: Check<'_, _> = Box::pin(enter::<R>(ports, &found, &head, &page));
        let (credentials, principal) = entering.await?;
        (credentials, Some(principal))
    } else {
        (Credentials::default(), None)
    };
    Admitted::at(ports, head, found, body, (credentials, principal))
}

/// Admits a request that came on a line, which was admitted itself.
///
/// # Errors
/// 404 if no route on lines has this path, and 405 if one has it with another method.
pub(crate) fn admit_on_line<'a, R: Routes>(
    ports: Ports<'a>,
    head: Head,
    body: Body<'a>,
) -> Result<Admitted<'a, R>, Problem> {
    let found = route::find(R::SPECS, &head.method, head.path())?;
    if !found.spec.marks.contains(&Mark::OnLine) {
        return Err(Problem::not_found());
    }
    Admitted::at(ports, head, found, body, (Credentials::default(), None))
}

/// Admits a message of the Redis trigger: it comes from the app itself, so only the settings are checked.
///
/// # Errors
/// 503 if the settings do not suffice to serve.
pub(crate) fn admit_message(
    ports: Ports<'_>,
    message: Vec<u8>,
) -> Result<Admitted<'_, Message>, Problem> {
    readiness::check(ports.config)?;
    Ok(Admitted {
        route: Message(message),
        ports,
        head: Head::default(),
        found: None,
        credentials: Credentials::default(),
        principal: RefCell::new(None),
        body: Cell::new(None),
    })
}

async fn enter<R: Routes>(
    ports: Ports<'_>,
    found: &Found,
    head: &Head,
    page: &Page,
) -> Result<(Credentials, Principal), Denied> {
    let credentials = head.credentials().without_foreign_token(ports.config)?;
    // Any page may show a picture of ours. Its browser then names no origin, and lets the page read nothing, so a GET
    // without an origin passes.
    let is_shown = found.spec.method == "GET" && page.origin.is_none();
    if !is_shown && !may_act(ports, &credentials, page) {
        return Err(Denied::CrossSite(page.refused_origin(ports.config)));
    }
    refuse_rebound(ports, &credentials, page)?;
    let principal = credentials.principal(ports, sessions::KNOWN_FOR).await?;
    if let Some(grant) = access::<R>(ports, found, &credentials, page, &principal).await? {
        grant.require(needed(found, &principal))?;
    }
    Ok((credentials, principal))
}

/// Finds what the principal may do in the project that the path names; `None` if it names none.
async fn access<R: Routes>(
    ports: Ports<'_>,
    found: &Found,
    credentials: &Credentials,
    page: &Page,
    principal: &Principal,
) -> Result<Option<Grant>, Denied> {
    let project = found.part("project");
    Ok(match found.spec.project_source {
        // A page of another site may get this far. Its browser shows it no answer, but the request must not make a
        // project, either.
        ProjectSource::Opens if R::NEEDS.opening && may_act(ports, credentials, page) => {
            let opening: Check<'_, Grant> = Box::pin(principal.open(ports, project));
            Some(opening.await?)
        }
        ProjectSource::Path | ProjectSource::Opens => Some(principal.access(ports, project).await?),
        ProjectSource::Nowhere | ProjectSource::FromRow => None,
    })
}

/// The role that a route needs of this principal.
fn needed(found: &Found, principal: &Principal) -> Role {
    match found.spec.need {
        Need::OwnOrSelf if matches!(principal, Principal::User { id, .. } if id == found.part("user")) => {
            Role::Read
        }
        Need::Nothing | Need::Signature | Need::Relay | Need::Principal | Need::Read => Role::Read,
        Need::Write => Role::Write,
        Need::Own | Need::OwnOrSelf => Role::Owner,
    }
}

/// Refuses a page on a foreign name that was pointed at this server (DNS rebinding), if callers need no credentials:
/// its browser takes the page for one of ours, so it could read everything.
pub(crate) fn refuse_rebound(
    ports: Ports<'_>,
    credentials: &Credentials,
    page: &Page,
) -> Result<(), Denied> {
    let is_open = credentials.bearer.is_none() && sessions::origin(ports.config)?.is_none();
    match page.foreign_host(ports.config) {
        Some(address) if is_open => {
            Err(Denied::ForeignHost(Advice::to_allow(address, ports.config)))
        }
        _ => Ok(()),
    }
}

/// Returns whether the page may act for its user. A bearer token is never sent by a browser on its own, so a request with
/// one needs no check of its origin.
pub(crate) fn may_act(ports: Ports<'_>, credentials: &Credentials, page: &Page) -> bool {
    credentials.bearer.is_some() || page.may_act(ports.config)
}
