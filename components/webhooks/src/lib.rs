//! The component `webhooks`: takes the reports of services about their jobs.
//!
//! It only connects requests with a library. The signature in the address that a service was given identifies the
//! service. It is checked before the body is read. The signature that some services put on the body itself is checked
//! after that.

use door::{Admitted, Reply, routes::Webhooks};
use problem::Problem;
use tasks::{Arrived, Engine};

/// The largest callback, in bytes.
const MAX_CALLBACK: usize = 16 * 1024 * 1024;

door::http_component!(route);

async fn route(request: Admitted<'_, Webhooks>) -> Result<Reply<'_>, Problem> {
    let Webhooks::CallBack { service } = request.route();
    let engine = Engine::open(request.ports()).await?;
    let parameter = |name| request.head().parameter(name).unwrap_or_default();
    let job = parameter("job");
    engine.authenticate(service, job, parameter("signature"))?;
    let body = request.body(MAX_CALLBACK).await?;
    let callback = Arrived {
        header: &|name| request.head().header(name),
        body: &body,
    };
    engine.receive_callback(service, job, callback).await?;
    // The service does not wait for the copy of its result.
    let job = job.to_owned();
    Ok(Reply::new(200).then(async move { engine.keep_results(&job).await }))
}
