//! The HTTP trigger.

// The macro generates unsafe code around the function.
#![allow(unsafe_code)]

use door::{Admitted, Reply, routes::Console};
use problem::Problem;
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};

use crate::{answer::answer, page::PAGE};

#[http_component]
async fn handle(request: IncomingRequest, out: ResponseOutparam) {
    door::serve(request, out, file).await;
}

async fn file(request: Admitted<'_, Console>) -> Result<Reply<'_>, Problem> {
    let Console::File { .. } = request.route();
    Ok(answer(request.head(), PAGE))
}
