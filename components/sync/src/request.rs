//! The requests and answers of this component.

use door::{Admitted, Reply, routes::Sync};
use problem::Problem;

/// A request that the front door has let in.
pub(crate) type Request<'a> = Admitted<'a, Sync>;

/// The answer of a handler.
pub(crate) type Answer<'a> = Result<Reply<'a>, Problem>;
