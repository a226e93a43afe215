//! The requests and answers of this component.

use door::{Admitted, Reply, routes::Projects};
use problem::Problem;

/// A request that the front door has let in.
pub(crate) type Request<'a> = Admitted<'a, Projects>;

/// The answer of a handler.
pub(crate) type Answer<'a> = Result<Reply<'a>, Problem>;
