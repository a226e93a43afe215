//! The plain HTTP requests to our server, on one connection that is kept open.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::servers::TOKEN;

/// A connection to our server.
#[derive(Debug)]
pub(crate) struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Http {
    /// Connects to our server.
    ///
    /// # Errors
    /// If no server listens at the address.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: address.to_string(),
        })
    }

    /// Applies one update to a project's document.
    ///
    /// # Errors
    /// If the server answers with anything but success.
    pub(crate) async fn post_update(&mut self, project: &str, update: Bytes) -> Result<()> {
        let path = format!("/sync/{project}");
        self.send(Method::POST, &path, update).await?;
        Ok(())
    }

    /// Reads a counter or gauge of `/metrics`, summed over its labels; 0 if there is none.
    ///
    /// # Errors
    /// If the server does not answer with its metrics.
    pub(crate) async fn metric(&mut self, name: &str) -> Result<f64> {
        let body = self.send(Method::GET, "/metrics", Bytes::new()).await?;
        Ok(sum_of(&String::from_utf8_lossy(&body), name))
    }

    /// Sends a request with the internal token, and returns the body of the answer.
    ///
    /// # Errors
    /// If the server answers with anything but success.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(body))?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!(
                "{method} {path}: {status}: {}",
                String::from_utf8_lossy(&body)
            );
        }
        Ok(body)
    }
}

/// Adds up all samples of a metric in Prometheus' text format.
fn sum_of(metrics: &str, name: &str) -> f64 {
    metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Applies one update, on a connection of its own.
///
/// # Errors
/// Those of [`Http::connect`] and [`Http::post_update`].
pub(crate) async fn post_update(address: SocketAddr, project: &str, update: Bytes) -> Result<()> {
    Http::connect(address)
        .await?
        .post_update(project, update)
        .await
        .context("load the document")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed() {
        let text = "# TYPE a counter\na 3\na_b 100\nc{x=\"1\"} 4\nc{x=\"2\"} 5\n";
        for (name, sum) in [("a", 3.0), ("a_b", 100.0), ("c", 9.0), ("none", 0.0)] {
            assert!((sum_of(text, name) - sum).abs() < 1e-9, "{name}");
        }
    }
}
