//! The component `webhooks`: services tell how a task is.
//!
//! It only wires. Who calls is known by the signature in the address, which is looked at first.

use auth::{door::Entered, visit, webhooks::WebhookKey};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};
use tasks::{Engine, Registry};

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
    if Registry::standard(ports.config).service(service).is_none() {
        return Err(Problem::not_found());
    }
    let engine = Engine::open(ports).await?;
    let job = authentic_job(&engine.key, service, &request)?;
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    engine.call_back(service, &job, &body).await?;
    Ok((Reply::new(200), None))
}

/// The job that the address was signed for.
fn authentic_job(key: &WebhookKey, service: &str, request: &Incoming) -> Result<String, Problem> {
    let parameters = request.parameters();
    match (parameters.get("job"), parameters.get("signature")) {
        (Some(job), Some(signature)) if key.verifies(service, job, signature) => Ok(job.to_owned()),
        _ => Err(Problem::new(
            401,
            "bad-signature",
            "Who are you?",
            "A callback comes with the signature of the address that the service was given.",
        )),
    }
}
