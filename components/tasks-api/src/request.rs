//! A request that this component answers, and what its caller may do.

use auth::{Denied, Grant, Principal};
use door::{Admitted, Reply, routes::Tasks};
use platform::Ports;
use problem::Problem;

/// A request to one of the component's routes.
pub(crate) type Request<'a> = Admitted<'a, Tasks>;

/// The answer to such a request.
pub(crate) type Answer<'a> = Result<Reply<'a>, Problem>;

/// Finds what the caller may do with a row of this project. For a caller without access, the row does not exist.
pub(crate) async fn access(
    ports: Ports<'_>,
    caller: &Principal,
    project: &str,
) -> Result<Grant, Problem> {
    match caller.access(ports, project).await {
        Err(Denied::Forbidden | Denied::NoSuchProject) => Err(Problem::not_found()),
        other => Ok(other?),
    }
}
