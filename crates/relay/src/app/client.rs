//! The app's internal routes, as the crate `wire` describes them.

use crate::app::upstream::{Dedicated, Upstream, UpstreamError, read_body};
use crate::edge::problem::MEDIA_TYPE;
use crate::edge::proxy::{Body, full};
use crate::settings::Settings;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The largest answer to an append or a comparison of heads.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The largest state of a room.
const MAX_STATE: usize = 512 * 1024 * 1024;

/// How many states are read at once, over all rooms.
const STATE_READS: usize = 16;

/// Why an internal request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AppError {
    /// No whole answer came.
    #[error("{0}")]
    Unreachable(String),
    /// No whole answer came in time.
    #[error("the app did not answer within {0:?}")]
    Timeout(Duration),
    /// The answer was another than 200 or 202.
    #[error("the app answered {0}")]
    Status(StatusCode),
    /// The app says that the request itself is at fault, and would be again.
    #[error("the app refuses the request: {0}")]
    Refused(StatusCode),
    /// The answer was not what the route promises.
    #[error("the app's answer makes no sense: {0}")]
    Garbage(String),
}

impl From<UpstreamError> for AppError {
    fn from(error: UpstreamError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// A client of the app.
pub(crate) struct App {
    upstream: Arc<Upstream>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    reads: Semaphore,
}

impl App {
    /// # Errors
    /// With words for the operator, when the token cannot be a header.
    pub(crate) fn new(upstream: Arc<Upstream>, settings: &Settings) -> Result<Self, String> {
        let authorization = match settings.internal_token.as_str() {
            "" => None,
            token => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| "the internal token has characters that no header may have")?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            upstream,
            authorization,
            timeout: settings.app_timeout,
            reads: Semaphore::new(STATE_READS),
        })
    }

    fn request<B>(&self, method: Method, path: &str, body: B) -> Result<Request<B>, AppError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.upstream.authority)
            .header(header::CONTENT_TYPE, wire::CONTENT_TYPE)
            .body(body)
            .map_err(|error| AppError::Garbage(error.to_string()))?;
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        max_bytes: usize,
    ) -> Result<Bytes, AppError> {
        let request: Request<Body> = self.request(method, path, full(body))?;
        timeout(self.timeout, async {
            let response = self.upstream.send(request).await?;
            let status = response.status();
            let refused = refuses(status, response.headers());
            let body = read_body(response.into_body(), max_bytes).await?;
            match status {
                StatusCode::OK | StatusCode::ACCEPTED => Ok(body),
                status if refused => Err(AppError::Refused(status)),
                status => Err(AppError::Status(status)),
            }
        })
        .await
        .map_err(|_| AppError::Timeout(self.timeout))?
    }

    async fn read(&self, path: &str) -> Result<Bytes, AppError> {
        // Never closed.
        let _turn = self.reads.acquire().await;
        self.call(Method::GET, path, Vec::new(), MAX_STATE).await
    }

    /// The state of a room, or what somebody at `version` lacks of it. It is not copied out of the
    /// answer, for it may be large.
    pub(crate) async fn state(
        &self,
        project: &str,
        version: Option<&[u8]>,
    ) -> Result<wire::StateOf<Bytes>, AppError> {
        let query = version
            .map(|version| format!("?version={}", URL_SAFE_NO_PAD.encode(version)))
            .unwrap_or_default();
        let path = format!("/internal/rooms/{project}/state{query}");
        let body = self.read(&path).await?;
        let state: wire::StateOf<&wire::ByteSlice> = wire::decode(&body).map_err(garbage)?;
        let slice = |bytes: &wire::ByteSlice| body.slice_ref(bytes);
        Ok(wire::StateOf {
            rev: state.rev,
            version: slice(state.version),
            blobs: state.blobs.into_iter().map(slice).collect(),
            revs: state.revs,
        })
    }

    /// Everything after a rev. Each blob is a piece of its own, for a room may keep some of them.
    pub(crate) async fn updates(&self, project: &str, after: u64) -> Result<wire::State, AppError> {
        let path = format!("/internal/rooms/{project}/updates?after={after}");
        wire::decode(&self.read(&path).await?).map_err(garbage)
    }

    /// The newest rev of each of these rooms, in their order.
    pub(crate) async fn heads(&self, projects: Vec<String>) -> Result<wire::Heads, AppError> {
        let asked = projects.len();
        let body = wire::encode(&wire::HeadsRequest { projects });
        let answer = self
            .call(Method::POST, "/internal/heads", body, MAX_ANSWER)
            .await?;
        let heads: wire::Heads = wire::decode(&answer).map_err(garbage)?;
        if heads.revs.len() == asked {
            Ok(heads)
        } else {
            Err(AppError::Garbage(format!(
                "{} heads for {asked} rooms",
                heads.revs.len()
            )))
        }
    }

    /// Whether sockets may be in their rooms, in their order.
    pub(crate) async fn access(
        &self,
        checks: Vec<wire::AccessCheck>,
    ) -> Result<Vec<wire::Verdict>, AppError> {
        let asked = checks.len();
        let body = wire::encode(&wire::AccessRequest { checks });
        let answer = self
            .call(Method::POST, "/internal/access", body, MAX_ANSWER)
            .await?;
        let wire::AccessResponse { verdicts } = wire::decode(&answer).map_err(garbage)?;
        if verdicts.len() == asked {
            Ok(verdicts)
        } else {
            Err(AppError::Garbage(format!(
                "{} verdicts for {asked} sockets",
                verdicts.len()
            )))
        }
    }

    /// Asks for a room to be compacted.
    pub(crate) async fn compact(&self, project: &str) -> Result<(), AppError> {
        let path = format!("/internal/rooms/{project}/compact");
        self.call(Method::POST, &path, Vec::new(), MAX_ANSWER)
            .await
            .map(drop)
    }

    /// Asks for whatever is due to be compacted.
    pub(crate) async fn sweep(&self) -> Result<(), AppError> {
        self.call(Method::POST, "/internal/sweep", Vec::new(), MAX_ANSWER)
            .await
            .map(drop)
    }

    /// Asks for everything that is due: tasks, their documents, compactions.
    pub(crate) async fn poll(&self) -> Result<(), AppError> {
        self.call(Method::POST, "/internal/poll", Vec::new(), MAX_ANSWER)
            .await
            .map(drop)
    }

    /// Stores updates over a connection of the caller's own, which is opened where there is none
    /// and let go when it failed. `updates` is how many `body`, an encoded
    /// [`wire::AppendRequest`], holds; `patience` is how long the answer may take.
    pub(crate) async fn append(
        &self,
        line: &mut Option<Dedicated>,
        body: Bytes,
        updates: usize,
        patience: Duration,
    ) -> Result<Vec<wire::Outcome>, AppError> {
        let exchange = async {
            let kept = line
                .take()
                .and_then(|mut kept| kept.is_usable().then_some(kept));
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.upstream.dedicated().await?,
            };
            let request = self.request(Method::POST, "/internal/append", Full::new(body))?;
            let response = connection.send(request, MAX_ANSWER).await?;
            Ok::<_, AppError>((connection, response))
        };
        let (connection, response) = timeout(patience, exchange)
            .await
            .map_err(|_| AppError::Timeout(patience))??;
        let close = response
            .headers()
            .get(header::CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        if !close {
            *line = Some(connection);
        }
        match response.status() {
            StatusCode::OK => {}
            status if refuses(status, response.headers()) => return Err(AppError::Refused(status)),
            status => return Err(AppError::Status(status)),
        }
        let wire::AppendResponse { outcomes } = wire::decode(response.body()).map_err(garbage)?;
        if outcomes.len() == updates {
            Ok(outcomes)
        } else {
            Err(AppError::Garbage(format!(
                "{} outcomes for {updates} updates",
                outcomes.len()
            )))
        }
    }
}

/// Whether an answer is the app's word on the request, and not that of a proxy in trouble. Any part
/// of the way may find a request too large; what is a bad request only the app can tell.
fn refuses(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_problem = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(MEDIA_TYPE.as_bytes()));
    status == StatusCode::PAYLOAD_TOO_LARGE || status == StatusCode::BAD_REQUEST && is_problem
}

fn garbage(error: wire::DecodeError) -> AppError {
    AppError::Garbage(error.to_string())
}
