//! A request on its way in.

use futures_util::StreamExt;
use spin_sdk::http::{IncomingRequest, Method};

use crate::problem::Problem;

/// A request whose body has not been read yet.
pub(crate) struct Incoming {
    request: IncomingRequest,
    path_and_query: String,
}

impl From<IncomingRequest> for Incoming {
    fn from(request: IncomingRequest) -> Self {
        let path_and_query = request.path_with_query().unwrap_or_else(|| "/".into());
        Self {
            request,
            path_and_query,
        }
    }
}

impl Incoming {
    pub(crate) fn method(&self) -> Method {
        self.request.method()
    }

    pub(crate) fn path(&self) -> &str {
        self.path_and_query
            .split_once('?')
            .map_or(self.path_and_query.as_str(), |(path, _)| path)
    }

    /// A parameter of the query. Ours need no percent-encoding, so there is no decoding.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path_and_query.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values = self.request.headers().get(name);
        String::from_utf8(values.into_iter().next()?).ok()
    }

    pub(crate) fn allow(&self, methods: &[Method]) -> Result<(), Problem> {
        if methods.contains(&self.method()) {
            Ok(())
        } else {
            Err(Problem::method_not_allowed(methods))
        }
    }

    /// Reads the body, up to `limit` bytes.
    pub(crate) async fn body(self, limit: usize) -> Result<Vec<u8>, Problem> {
        let length: usize = self
            .header("content-length")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        if length > limit {
            return Err(Problem::too_large(limit));
        }
        let mut body = Vec::with_capacity(length);
        let mut chunks = std::pin::pin!(self.request.into_body_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::bad_request("The body ended too early."))?;
            if body.len() + chunk.len() > limit {
                return Err(Problem::too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        if body.len() < length {
            return Err(Problem::bad_request("The body ended too early."));
        }
        Ok(body)
    }
}

pub(crate) fn method_name(method: &Method) -> &str {
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
