//! An answer on its way out.

use std::pin::Pin;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use problem::{MEDIA_TYPE, Problem};
use serde::Serialize;

use crate::Tag;

/// The headers that every answer of a component has, with names in lower case.
pub type Headers = &'static [(&'static str, &'static str)];

/// The work that follows an answer. The caller does not wait for it.
pub(crate) type AfterReply<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Makes an answer's body while it is sent.
pub(crate) trait Streaming {
    /// Sends the chunks, and then goes on with the work that follows.
    fn send<'s>(self: Box<Self>, outlet: Outlet) -> AfterReply<'s>
    where
        Self: 's;
}

/// The outlet for the chunks of an answer's body. When a send has ended, its chunk was handed to the client's
/// connection.
pub(crate) type Outlet = Pin<Box<dyn Sink<Vec<u8>, Error = HungUp>>>;

/// The error of a client that has hung up.
#[derive(Debug)]
pub(crate) struct HungUp;

/// A body that is made part by part.
struct Parts<S>(S);

impl<S: Stream<Item = Vec<u8>>> Streaming for Parts<S> {
    fn send<'s>(self: Box<Self>, mut outlet: Outlet) -> AfterReply<'s>
    where
        Self: 's,
    {
        Box::pin(async move {
            let mut parts = std::pin::pin!(self.0);
            while let Some(part) = parts.next().await {
                if outlet.send(part).await.is_err() {
                    tracing::debug!("the client hung up before the whole answer was sent");
                    break;
                }
            }
        })
    }
}

/// The status, the headers and the whole body of an answer, and the work that follows it.
pub struct Reply<'a> {
    pub(crate) status: u16,
    /// The headers, with names in lower case.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The body; `None` for an answer that has no body by its nature, and so declares no length.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) after_reply: Option<AfterReply<'a>>,
    /// Sends the body while it is made, instead of a whole `body`.
    pub(crate) streaming: Option<Box<dyn Streaming + 'a>>,
}

impl<'a> Reply<'a> {
    /// Makes an answer without headers, with an empty body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Some(Vec::new()),
            after_reply: None,
            streaming: None,
        }
    }

    /// Makes a JSON answer.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self::new(status).media_type("application/json").body(body)
    }

    /// Makes an answer that has no body by its nature, such as 204.
    pub fn empty(status: u16) -> Self {
        Self {
            body: None,
            ..Self::new(status)
        }
    }

    /// Makes a 304: the client has the representation of this tag already.
    pub fn not_modified(tag: &Tag) -> Self {
        Self::empty(304).tag(tag)
    }

    /// Adds the tag of the representation.
    #[must_use]
    pub fn tag(self, tag: &Tag) -> Self {
        self.header("etag", tag.to_string())
    }

    /// Sets the media type.
    #[must_use]
    pub fn media_type(self, media_type: impl Into<String>) -> Self {
        self.header("content-type", media_type)
    }

    /// Adds a header. The name is in lower case.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a header unless there is one of this name.
    #[must_use]
    pub(crate) fn header_if_absent(self, name: &'static str, value: impl Into<String>) -> Self {
        if self.headers.iter().any(|(there, _)| *there == name) {
            self
        } else {
            self.header(name, value)
        }
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Makes the same answer for a HEAD request. It declares a length only if a header does.
    #[must_use]
    pub(crate) fn without_body(mut self) -> Self {
        self.body = None;
        self.streaming = None;
        self
    }

    /// Makes an answer whose body is made part by part while it is sent, so that only one part is in memory.
    pub fn parts(status: u16, parts: impl Stream<Item = Vec<u8>> + 'a) -> Self {
        Self::streaming(status, Parts(parts))
    }

    /// Makes an answer whose body is sent while it is made.
    pub(crate) fn streaming(status: u16, body: impl Streaming + 'a) -> Self {
        Self {
            streaming: Some(Box::new(body)),
            ..Self::empty(status)
        }
    }

    /// Adds work that follows the answer, in the same instance.
    #[must_use]
    pub fn then(mut self, work: impl Future<Output = ()> + 'a) -> Self {
        self.after_reply = Some(Box::pin(work));
        self
    }
}

impl Reply<'_> {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers, with names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }

    /// The body; `None` for an answer that has none by its nature.
    pub fn content(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }
}

impl From<Problem> for Reply<'_> {
    fn from(problem: Problem) -> Self {
        let reply = Self::new(problem.status())
            .media_type(MEDIA_TYPE)
            // Without this header, a browser may keep a 404 or 405 for as long as it likes (RFC 9110, section 15.1).
            .header("cache-control", "no-store")
            .body(problem.body());
        match problem.header() {
            Some((name, value)) => reply.header(name, value),
            None => reply,
        }
    }
}
