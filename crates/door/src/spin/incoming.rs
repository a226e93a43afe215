//! A request as Spin hands it over.

use futures_util::StreamExt;
use spin_sdk::http::{IncomingRequest, Method};

use crate::{
    Head,
    body::{Body, BrokenOff},
};

/// Takes a request apart.
pub(super) fn split(request: IncomingRequest) -> (Head, Body<'static>) {
    let address = request.path_with_query().unwrap_or_else(|| "/".into());
    let head = Head::new(
        name(&request.method()),
        &address,
        request.headers().entries(),
        request.authority(),
    );
    let chunks = async_stream(request);
    let declared = head.content_length();
    (head, Body { declared, chunks })
}

/// The chunks of the body. The host's stream is opened when the body is first read, because most requests have none.
fn async_stream(request: IncomingRequest) -> crate::body::Chunks<'static> {
    let chunks = futures_util::stream::once(async move { request.into_body_stream() }).flatten();
    Box::pin(chunks.map(|chunk| chunk.map_err(|_| BrokenOff)))
}

fn name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}
