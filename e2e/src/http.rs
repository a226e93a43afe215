//! A small HTTP client that opens a connection for each request.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use loro::LoroDoc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::soon;

/// A server at an address.
#[derive(Debug, Clone)]
pub struct Http {
    address: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Http {
    /// Refers to the server at `address`, such as `127.0.0.1:8787`.
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// Sends a GET with headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// Posts an octet stream.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let headers = [("content-type", "application/octet-stream")];
        self.send(Method::POST, path, &headers, body.into()).await
    }

    /// Sends any request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let what = format!("the answer to {method} {path}");
        soon(&what, self.try_send(method, path, headers, body))
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:#}"))
    }

    /// Sends any request to a server that may be away.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header(header::HOST, &self.address);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match sender.send_request(request.body(Full::new(body))?).await {
            Ok(response) => response,
            // The connection's own error says why.
            Err(error) if error.is_canceled() => match connection.await? {
                Ok(()) => return Err(error.into()),
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// Sends bytes as they are, and reads until the server closes or the announced length has arrived. Returns the
    /// status and everything that was read.
    pub async fn raw(&self, request: Vec<u8>) -> (u16, String) {
        let what = "the answer to a raw request";
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        // The server may answer, and close, before it has read everything.
        let writing = tokio::spawn(async move {
            let _ = write.write_all(&request).await;
            write
        });
        let mut answer = Vec::new();
        let reading = async {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = read.read(&mut piece).await {
                answer.extend_from_slice(&piece[..count]);
                if is_whole(&answer) {
                    break;
                }
            }
        };
        soon(what, reading).await;
        writing.abort();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.unwrap_or(0), answer)
    }

    /// Begins a request, and holds the last byte of its body back until [`Held::finish`].
    pub async fn hold(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Held {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let (last, rest) = body.split_last().unwrap();
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(rest).await.unwrap();
        Held {
            stream,
            last: *last,
        }
    }

    /// Reads the document of a project with `GET /sync/{project}`, and its rev.
    pub async fn document(&self, project: &str) -> (LoroDoc, u64) {
        let answer = self.get(&format!("/sync/{project}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let doc = LoroDoc::new();
        let status = doc.import(&answer.body).unwrap();
        assert!(status.pending.is_none(), "the snapshot is not complete");
        (doc, answer.rev())
    }

    /// Reads a number from the relay's `/metrics`.
    pub async fn metric(&self, name: &str, internal_token: &str) -> u64 {
        let authorization = format!("Bearer {internal_token}");
        let answer = self
            .get_with("/metrics", &[("authorization", &authorization)])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let text = answer.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no metric {name}"))
            .parse()
            .unwrap()
    }
}

/// A request under way; the last byte of its body is held back.
pub struct Held {
    stream: TcpStream,
    last: u8,
}

impl Held {
    /// Sends the last byte, and returns the status and everything that was read.
    pub async fn finish(mut self) -> (u16, String) {
        self.stream.write_all(&[self.last]).await.unwrap();
        let reading = async {
            let mut answer = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = self.stream.read(&mut piece).await {
                answer.extend_from_slice(&piece[..count]);
                if is_whole(&answer) {
                    break;
                }
            }
            answer
        };
        let answer = soon("the answer to a held request", reading).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1);
        let status = status.and_then(|status| status.parse().ok());
        (status.unwrap_or(0), answer)
    }
}

/// Returns whether bytes are a complete answer with a `content-length`.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .filter_map(|(_, length)| length.trim().parse::<usize>().ok())
        .any(|length| body.len() >= length)
}

impl Answer {
    /// The value of a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// The rev that the answer names.
    pub fn rev(&self) -> u64 {
        let rev = self.header("x-loro-rev");
        rev.parse().unwrap_or_else(|_| panic!("no rev: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Checks that the answer is an `application/problem+json` with this status and this type.
    pub fn assert_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:loro-sync:problem:{kind}"));
        assert_eq!(problem["status"], status);
        for field in ["title", "detail"] {
            assert!(!problem[field].as_str().unwrap().is_empty(), "{problem}");
        }
    }
}
