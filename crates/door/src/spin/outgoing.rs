//! An answer as Spin takes it.

use futures_util::SinkExt;
use spin_sdk::http::{Fields, OutgoingResponse, ResponseOutparam};

use crate::{Reply, reply::HungUp};

/// Sends an answer. When this returns, the answer has left, and the instance may go on working.
pub(super) async fn send(reply: Reply<'_>, out: ResponseOutparam) {
    let Reply {
        status,
        headers,
        body,
        streaming,
        ..
    } = reply;
    let mut headers: Vec<(String, Vec<u8>)> = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .collect();
    if let Some(body) = &body {
        headers.push(("content-length".into(), body.len().to_string().into_bytes()));
    }
    let Ok(headers) = Fields::from_list(&headers) else {
        tracing::error!("a header of an answer is not valid");
        return;
    };
    let response = OutgoingResponse::new(headers);
    if response.set_status_code(status).is_err() {
        tracing::error!(status, "the status of an answer is not valid");
        return;
    }
    if let Some(streaming) = streaming {
        let outlet = response.take_body().sink_map_err(|_| HungUp);
        out.set(response);
        streaming(Box::pin(outlet)).await;
        return;
    }
    if let Err(error) = out.set_with_body(response, body.unwrap_or_default()).await {
        // The client has hung up. The request took effect all the same.
        tracing::debug!(?error, "the client did not take the answer");
    }
}
