//! The front door on Spin: the triggers, and the adapters of the ports. All of it is private, so that a component reaches
//! the outside only through an [`Admitted`].

mod database;
mod http_client;
mod incoming;
mod log;
mod outgoing;
mod panics;
mod ports;

use problem::Problem;
use spin_sdk::http::{IncomingRequest, ResponseOutparam};

use crate::{
    Admitted, Headers, Mark, Message, Reply, Routes,
    admit::admit_message,
    visit::{Arrival, visit},
};
use ports::{Schema, SpinPorts};

pub use panics::report_panics;
/// Makes the entry of a component that the HTTP trigger calls: [`serve`] with a handler in the same module, and the
/// [`Headers`] of the component if it has any. The component depends on `spin-sdk`, whose code it generates.
#[macro_export]
macro_rules! http_component {
    ($handler:ident $(, $headers:path)?) => {
        mod entry {
            // The attribute generates unsafe code around the function.
            #![allow(unsafe_code)]

            use ::spin_sdk::http::{IncomingRequest, ResponseOutparam};

            #[::spin_sdk::http_component]
            async fn handle(request: IncomingRequest, out: ResponseOutparam) {
                let headers: $crate::Headers = &[];
                $(let headers: $crate::Headers = $headers;)?
                $crate::serve(request, out, headers, super::$handler).await;
            }
        }
    };
}

/// Serves a request of the HTTP trigger: lets it in, has `handler` answer it, sends the answer, and then does the work
/// that follows. Every answer gets those of `headers` that it does not have, even if the handler was never called.
pub async fn serve<R: Routes>(
    request: IncomingRequest,
    out: ResponseOutparam,
    headers: Headers,
    handler: impl for<'a> AsyncFnOnce(Admitted<'a, R>) -> Result<Reply<'a>, Problem>,
) {
    log::to_stderr();
    let (head, body) = incoming::split(request);
    let arrival = Arrival::at::<R>(head, body);
    let world = SpinPorts::new(if arrival.has(Mark::TrustsSchema) {
        Schema::Trusted
    } else {
        Schema::Checked
    });
    let mut reply = visit(world.of_request::<R>(), arrival, headers, handler).await;
    let after_reply = reply.after_reply.take();
    outgoing::send(reply, out).await;
    if let Some(work) = after_reply {
        work.await;
    }
}

/// Handles a message of the Redis trigger.
///
/// # Errors
/// If a setting is missing, or `handler` fails; the host logs it.
pub async fn receive(
    message: Vec<u8>,
    handler: impl for<'a> AsyncFnOnce(Admitted<'a, Message>) -> Result<(), Problem>,
) -> Result<(), String> {
    log::to_stderr();
    let world = SpinPorts::new(Schema::Checked);
    let outcome = match admit_message(world.of_message(), message) {
        Ok(admitted) => handler(admitted).await,
        Err(problem) => Err(problem),
    };
    outcome.map_err(|problem| problem.body())
}
