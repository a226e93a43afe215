//! The component `webhooks`: services tell how a task is.
//!
//! It only wires. Who calls is known by the signature in the address, which is looked at first.

use auth::{door::Entered, visit};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};
use tasks::Engine;

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[http_component]
    async fn handle(request: IncomingRequest, out: ResponseOutparam) {
        log_to_stderr();
        visit::serve(
            request.into(),
            out,
            call_back,
            async |_: Ports<'_>, (): ()| {},
        )
        .await;
    }
}

async fn call_back(
    ports: Ports<'_>,
    entered: &Entered,
    request: Incoming,
) -> Result<(Reply, Option<()>), Problem> {
    let service = entered.found.part(0);
    let engine = Engine::open(ports).await?;
    let parameters = request.parameters();
    let parameter = |name| parameters.get(name).unwrap_or_default();
    let job = parameter("job");
    engine.authenticate(service, job, parameter("signature"))?;
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    engine.call_back(service, job, &body).await?;
    Ok((Reply::new(200), None))
}
