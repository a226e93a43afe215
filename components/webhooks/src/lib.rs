//! The component `webhooks`: services report how their jobs are.
//!
//! It only wires. A service is known by the signature in the address that it was given, which is checked before
//! the body is read.

use auth::webhooks::WebhookKey;
use door::{Admitted, Head, Reply, routes::Webhooks};
use problem::{Kind, Problem};
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};
use tasks::Engine;

/// The largest callback, in bytes.
const MAX_CALLBACK: usize = 16 * 1024 * 1024;

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[http_component]
    async fn handle(request: IncomingRequest, out: ResponseOutparam) {
        door::serve(request, out, route).await;
    }
}

async fn route(request: Admitted<'_, Webhooks>) -> Result<Reply<'_>, Problem> {
    let Webhooks::CallBack { service } = request.route();
    let engine = Engine::open(request.ports()).await?;
    if engine.registry.service(service).is_none() {
        return Err(Problem::not_found());
    }
    let job = authentic_job(&engine.key, service, request.head())?;
    let body = request.body(MAX_CALLBACK).await?;
    engine.call_back(service, &job, &body).await?;
    Ok(Reply::new(200))
}

/// The job that the address was signed for.
fn authentic_job(key: &WebhookKey, service: &str, head: &Head) -> Result<String, Problem> {
    match (head.parameter("job"), head.parameter("signature")) {
        (Some(job), Some(signature)) if key.verifies(service, job, signature) => Ok(job.to_owned()),
        _ => Err(Problem::new(
            Kind::BAD_SIGNATURE,
            "A callback must come to the address, with its signature, that the service was given.",
        )),
    }
}
