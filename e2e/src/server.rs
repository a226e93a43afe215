//! A small HTTP server for the doubles of services.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The path and the query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// The value of a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The reaction of the server to a request.
#[derive(Debug)]
pub enum Reply {
    /// Sends this answer.
    Answer(Response<Full<Bytes>>),
    /// Closes the connection.
    Drop,
    /// Keeps the connection open, and never answers.
    Hang,
}

impl Reply {
    /// Answers with JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string())
    }

    /// Answers with any bytes.
    pub fn bytes(status: u16, media_type: &str, body: impl Into<Bytes>) -> Self {
        let answer = Response::builder()
            .status(status)
            .header("content-type", media_type)
            .body(Full::new(body.into()));
        Self::Answer(answer.unwrap())
    }
}

/// A server. Dropping it ends it and cuts its connections.
pub struct Server {
    /// The address, such as `127.0.0.1:1234`.
    pub address: String,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts a server on a free port that replies with the result of `handle`.
    pub async fn start<F, R>(handle: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, handle)
    }

    /// Starts a server on an address that listens already, within a tokio runtime.
    pub fn on<F, R>(listener: std::net::TcpListener, handle: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(run(listener, Arc::new(handle)));
        Self { address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The error that closes a connection without an answer.
#[derive(Debug)]
struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dropped")
    }
}

impl std::error::Error for Dropped {}

async fn run<F, R>(listener: TcpListener, handle: Arc<F>)
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    // The connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let handle = handle.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let handle = handle.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
                    let request = Request {
                        method: head.method,
                        path: head.uri.path().to_owned(),
                        target: head.uri.to_string(),
                        headers: head.headers,
                        body,
                    };
                    match handle(request).await {
                        Reply::Answer(answer) => Ok(answer),
                        Reply::Drop => Err(Dropped),
                        Reply::Hang => std::future::pending().await,
                    }
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that goes away is not an error here, and neither is a dropped connection.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
