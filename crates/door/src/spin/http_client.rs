//! The adapter for outbound HTTP.

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, future};
use platform::{
    Clock, HttpClient, HttpError,
    clock::SystemClock,
    http_client::{Limits, Pieces, take},
};
use spin_sdk::http::{ErrorCode, IncomingResponse, Request, SendError};

/// The client for outbound HTTP to the addresses that `allowed_outbound_hosts` lists.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SpinHttpClient;

#[async_trait(?Send)]
impl HttpClient for SpinHttpClient {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        within(limits.timeout, exchange(request, limits.max_bytes)).await
    }

    async fn open<'s>(
        &'s self,
        request: http::Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Box<dyn Pieces + 's>>, HttpError> {
        let answer = within(limits.timeout, begin(request)).await?;
        Ok(answer.map(|stream| {
            Box::new(Body {
                stream,
                left: limits.max_bytes,
                timeout: limits.timeout,
            }) as Box<dyn Pieces>
        }))
    }
}

/// Waits for an answer, but no longer than this. Dropping the exchange hangs up.
async fn within<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    match future::select(Box::pin(answer), SystemClock.sleep(timeout)).await {
        future::Either::Left((answer, _)) => answer,
        future::Either::Right(_) => {
            let words = format!("no answer within {} s", timeout.as_secs());
            Err(HttpError::NoAnswer(words))
        }
    }
}

/// The body of an answer on its way.
type Chunks = Pin<Box<dyn Stream<Item = Result<Vec<u8>, HttpError>>>>;

/// A body of which `left` bytes may still come.
struct Body {
    stream: Chunks,
    left: usize,
    timeout: Duration,
}

#[async_trait(?Send)]
impl Pieces for Body {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        let next = async { self.stream.next().await.transpose() };
        let piece = within(self.timeout, next).await?;
        if let Some(piece) = &piece {
            take(&mut self.left, piece)?;
        }
        Ok(piece)
    }
}

async fn exchange(
    request: http::Request<Vec<u8>>,
    max_bytes: usize,
) -> Result<http::Response<Vec<u8>>, HttpError> {
    let (head, mut chunks) = begin(request).await?.into_parts();
    let (mut body, mut left) = (Vec::new(), max_bytes);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        take(&mut left, &chunk)?;
        body.extend_from_slice(&chunk);
    }
    Ok(http::Response::from_parts(head, body))
}

/// Sends a request and reads the head of its answer.
async fn begin(request: http::Request<Vec<u8>>) -> Result<http::Response<Chunks>, HttpError> {
    let (parts, body) = request.into_parts();
    let mut outgoing = Request::builder();
    outgoing
        .method(match parts.method {
            http::Method::GET => spin_sdk::http::Method::Get,
            http::Method::HEAD => spin_sdk::http::Method::Head,
            http::Method::POST => spin_sdk::http::Method::Post,
            http::Method::PUT => spin_sdk::http::Method::Put,
            http::Method::DELETE => spin_sdk::http::Method::Delete,
            other => return Err(HttpError::NotSent(format!("the app sends no {other}"))),
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
    let chunks = response.take_body_stream();
    let chunks = chunks.map(move |chunk| {
        // The host may require that the response lives as long as its body.
        let _ = &response;
        chunk.map_err(|error| HttpError::NoAnswer(error.to_string()))
    });
    answer
        .body(Box::pin(chunks) as Chunks)
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
