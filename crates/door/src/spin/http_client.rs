//! Outbound HTTP.

use async_trait::async_trait;
use futures_util::{StreamExt, future};
use platform::{Clock, HttpClient, HttpError, clock::SystemClock, http_client::Limits};
use spin_sdk::http::{ErrorCode, IncomingResponse, Request, SendError};

/// Outbound HTTP to the addresses that `allowed_outbound_hosts` lists.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SpinHttpClient;

#[async_trait(?Send)]
impl HttpClient for SpinHttpClient {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        let answer = Box::pin(exchange(request, limits.max_bytes));
        // Dropping the exchange hangs up.
        match future::select(answer, SystemClock.sleep(limits.timeout)).await {
            future::Either::Left((answer, _)) => answer,
            future::Either::Right(_) => {
                let words = format!("no answer within {} s", limits.timeout.as_secs());
                Err(HttpError::NoAnswer(words))
            }
        }
    }
}

async fn exchange(
    request: http::Request<Vec<u8>>,
    max_bytes: usize,
) -> Result<http::Response<Vec<u8>>, HttpError> {
    let (parts, body) = request.into_parts();
    let mut outgoing = Request::builder();
    outgoing
        .method(match parts.method {
            http::Method::POST => spin_sdk::http::Method::Post,
            http::Method::PUT => spin_sdk::http::Method::Put,
            http::Method::PATCH => spin_sdk::http::Method::Patch,
            http::Method::DELETE => spin_sdk::http::Method::Delete,
            http::Method::HEAD => spin_sdk::http::Method::Head,
            _ => spin_sdk::http::Method::Get,
        })
        .uri(parts.uri.to_string())
        .body(body);
    for (name, value) in &parts.headers {
        // A value may be UTF-8, because browsers send it in cookies.
        if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
            outgoing.header(name.as_str(), value);
        }
    }
    let response: IncomingResponse = spin_sdk::http::send(outgoing.build())
        .await
        .map_err(no_answer)?;
    let mut answer = http::Response::builder().status(response.status());
    for (name, value) in response.headers().entries() {
        answer = answer.header(name, value);
    }
    let mut body = Vec::new();
    let mut chunks = std::pin::pin!(response.take_body_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| HttpError::NoAnswer(error.to_string()))?;
        if body.len() + chunk.len() > max_bytes {
            return Err(HttpError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    answer
        .body(body)
        .map_err(|error| HttpError::NoAnswer(error.to_string()))
}

fn no_answer(error: SendError) -> HttpError {
    match error {
        SendError::Http(
            code @ (ErrorCode::HttpRequestDenied
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::DestinationNotFound
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpProhibited
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused),
        ) => HttpError::NotSent(code.to_string()),
        other => HttpError::NoAnswer(other.to_string()),
    }
}
