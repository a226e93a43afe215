//! The front door on Spin: the triggers, and the adapters of the ports. All of it is private, so that a component reaches
//! the world through an [`Admitted`] alone.

mod http_client;
mod incoming;
mod log;
mod outgoing;
mod panics;
mod ports;

use problem::Problem;
use spin_sdk::http::{IncomingRequest, ResponseOutparam};

use crate::{Admitted, Mark, Message, Reply, Routes, admit::admit_message, route, visit::visit};
use ports::{Schema, SpinPorts};

pub use panics::report_panics;

/// Serves a request of the HTTP trigger: lets it in, has `handler` answer it, sends the answer, and then does the work
/// that follows.
pub async fn serve<R: Routes>(
    request: IncomingRequest,
    out: ResponseOutparam,
    handler: impl for<'a> AsyncFnOnce(Admitted<'a, R>) -> Result<Reply<'a>, Problem>,
) {
    log::to_stderr();
    let (head, body) = incoming::split(request);
    let found = route::find(R::SPECS, &head.method, head.path());
    let trusts = found.is_ok_and(|found| found.spec.marks.contains(&Mark::TrustsSchema));
    let world = SpinPorts::new(if trusts {
        Schema::Trusted
    } else {
        Schema::Checked
    });
    let mut reply = visit(world.of_request(), head, body, handler).await;
    let afterwards = reply.afterwards.take();
    outgoing::send(reply, out).await;
    if let Some(work) = afterwards {
        work.await;
    }
}

/// Handles a message of the Redis trigger.
///
/// # Errors
/// If a setting is missing, or `handler` fails; the host logs it.
pub async fn hear(
    message: Vec<u8>,
    handler: impl for<'a> AsyncFnOnce(Admitted<'a, Message>) -> Result<(), Problem>,
) -> Result<(), String> {
    log::to_stderr();
    let world = SpinPorts::new(Schema::Checked);
    let heard = match admit_message(world.of_message(), message) {
        Ok(admitted) => handler(admitted).await,
        Err(problem) => Err(problem),
    };
    heard.map_err(|problem| problem.body())
}
