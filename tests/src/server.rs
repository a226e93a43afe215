//! A small HTTP server for services that are made up.

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

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a server does with a request.
#[derive(Debug)]
pub enum Reply {
    /// It answers.
    Answer(Response<Full<Bytes>>),
    /// It closes the connection.
    Drop,
    /// It says nothing, for ever.
    Hang,
}

impl Reply {
    /// An answer in JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string())
    }

    /// Any answer.
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
    /// Where it is, as `127.0.0.1:1234`.
    pub address: String,
    task: JoinHandle<()>,
}

impl Server {
    /// A server on a free port that does what `handle` says.
    pub async fn start<F, R>(handle: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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

/// Why a connection is closed without an answer.
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
    // They end with this task.
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
            // A client that goes away is none of a server's errors, and neither is a dropped one.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
