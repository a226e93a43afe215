//! A request on its way in.

use futures_util::StreamExt;
use spin_sdk::http::{IncomingRequest, Method};

use crate::Problem;

/// A request whose body has not been read yet.
pub struct Incoming {
    request: IncomingRequest,
    path_and_query: String,
}

/// The parameters of a query.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The first parameter of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
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
    /// Its method.
    pub fn method(&self) -> Method {
        self.request.method()
    }

    /// Its path, without the query.
    pub fn path(&self) -> &str {
        self.path_and_query
            .split_once('?')
            .map_or(self.path_and_query.as_str(), |(path, _)| path)
    }

    /// A parameter of the query, percent-decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        self.parameters().get(name).map(str::to_owned)
    }

    /// All parameters of the query.
    pub fn parameters(&self) -> Query {
        let query = self.path_and_query.split_once('?').map_or("", |(_, q)| q);
        Query(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.request.headers().get(name);
        String::from_utf8(values.into_iter().next()?).ok()
    }

    /// All values of a header in one, as HTTP lets them be joined; `None` where there is none.
    pub fn joined(&self, name: &str, separator: &str) -> Option<String> {
        let values = self.request.headers().get(name);
        let texts: Vec<String> = values
            .into_iter()
            .filter_map(|value| String::from_utf8(value).ok())
            .collect();
        (!texts.is_empty()).then(|| texts.join(separator))
    }

    /// Under which name, and port, the server was reached.
    pub fn host(&self) -> Option<String> {
        self.header("host")
            // A host may keep the header to itself.
            .or_else(|| self.request.authority())
    }

    /// Its method's name, in capitals.
    pub fn method_name(&self) -> String {
        name(&self.request.method()).to_owned()
    }

    /// Whether its `If-None-Match` names this entity tag.
    pub fn knows(&self, tag: &str) -> bool {
        self.header("if-none-match")
            .is_some_and(|header| names_tag(&header, tag))
    }

    /// Whether the method is one of these.
    ///
    /// # Errors
    /// 405, which names them, where it is not.
    pub fn allow(&self, methods: &[Method]) -> Result<(), Problem> {
        if methods.contains(&self.method()) {
            Ok(())
        } else {
            let allowed: Vec<&str> = methods.iter().map(name).collect();
            Err(Problem::method_not_allowed(&allowed))
        }
    }

    /// Reads the body, up to `limit` bytes.
    ///
    /// # Errors
    /// When it is larger, or ends too early.
    pub async fn body(self, limit: usize) -> Result<Vec<u8>, Problem> {
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

/// Whether an `If-None-Match` header names this entity tag.
pub fn names_tag(header: &str, tag: &str) -> bool {
    header
        .split(',')
        .map(|given| given.trim().trim_start_matches("W/"))
        .any(|given| given == tag || given == "*")
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
