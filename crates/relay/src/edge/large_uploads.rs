//! The large uploads: pictures and films that go on to the app in parts, each in a request of its own.
//!
//! So the relay holds one part of an upload at a time, in the memory of [bodies](crate::edge::uploads) and under their rules,
//! and a client that sends slowly holds no instance of the app. If an upload does not become whole, the relay makes the
//! app give it up.

use crate::app::backoff::Backoff;
use crate::app::upstream::Upstream;
use crate::edge::body::{Body, full};
use crate::edge::caps::Place;
use crate::edge::headers::bad_target;
use crate::edge::problem::app_unreachable;
use crate::edge::proxy::{Asked, Proxy};
use crate::edge::uploads::Upload;
use crate::edge::visitor::Visitor;
use crate::socket::raw;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use problem::{Kind, Problem};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wire::{MAX_WHOLE_UPLOAD, UPLOAD_PART};

/// The number of times that a part is tried, because the upload is lost with it.
const TRIES: u32 = 4;

/// The longest waits before the second and before the last try of a part.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// The part of a refused upload that is read, in bytes, and the time for that: a client that is still sending when the
/// answer comes may see a broken connection instead.
const DISCARDED: u64 = 64 * 1024 * 1024;
const DISCARDED_WITHIN: Duration = Duration::from_secs(20);

/// The project part of a path if it takes uploads: `/projects/{project}/assets`.
fn project(path: &str) -> Option<&str> {
    let project = path.strip_prefix("/projects/")?.strip_suffix("/assets")?;
    (!project.is_empty() && !project.contains('/')).then_some(project)
}

/// The length of an upload that goes to the app in parts, because it is larger than a request may be; `None` if the request
/// is no upload, is small, or has no `Content-Length`. `most` is the most bytes of a body.
pub(crate) fn length<B: HttpBody>(request: &Request<B>, most: usize) -> Option<u64> {
    let length = request.body().size_hint().exact()?;
    let is_large = length > MAX_WHOLE_UPLOAD.min(most) as u64;
    let is_upload = request.method() == Method::POST && project(request.uri().path()).is_some();
    (is_upload && is_large && most >= UPLOAD_PART).then_some(length)
}

impl Proxy {
    /// Sends an upload of this length to the app in parts, and passes the answer to the last one on.
    pub(super) async fn send_in_parts(
        &self,
        visitor: &Visitor,
        (head, body): (Parts, Incoming),
        length: u64,
    ) -> Result<Response<Body>, Problem> {
        let mut whole = Whole::new(body);
        let sending = Sending {
            proxy: self,
            visitor,
            network: self.limits.network(visitor.peer, &head.headers),
            head,
            length,
        };
        let answer = sending.run(&mut whole).await;
        if !answer
            .as_ref()
            .is_ok_and(|answer| answer.status().is_success())
        {
            whole.discard().await;
        }
        answer
    }
}

/// An upload on its way to the app.
struct Sending<'a> {
    proxy: &'a Proxy,
    visitor: &'a Visitor,
    network: IpAddr,
    head: Parts,
    length: u64,
}

impl Sending<'_> {
    async fn run(&self, whole: &mut Whole<Incoming>) -> Result<Response<Body>, Problem> {
        let mut begun: Option<Begun> = None;
        let mut at = 0;
        loop {
            let length = (self.length - at).min(UPLOAD_PART as u64);
            let part = self.read(whole, length, begun.is_some()).await?;
            let is_last = at + length == self.length;
            let target = match &begun {
                None => format!("?length={}", self.length),
                Some(begun) if is_last => format!("/{}?from={at}&last=1", begun.id),
                Some(begun) => format!("/{}?from={at}", begun.id),
            };
            let tries = if begun.is_some() { TRIES } else { 1 };
            let (asked, place) = self.exchange(&target, part, tries).await?;
            let is_refused = !asked.response.status().is_success();
            if is_refused || is_last {
                if let Some(begun) = begun.filter(|_| !is_refused) {
                    begun.end();
                }
                return self.proxy.finish(asked, place).await;
            }
            if begun.is_none() {
                let id = id(&asked).ok_or_else(app_unreachable)?;
                let head = self.outgoing(Method::DELETE, &format!("/{id}"), 0)?;
                let head = self.proxy.outgoing(self.visitor.peer, head)?;
                begun = Some(Begun::new(self.proxy, id, head));
            }
            self.proxy.discard(asked).await;
            drop(place);
            at += length;
        }
    }

    /// Reads the next part. Once the upload has begun, the client waits longer for memory.
    async fn read(
        &self,
        whole: &mut Whole<Incoming>,
        length: u64,
        is_begun: bool,
    ) -> Result<Upload, Problem> {
        let proxy = self.proxy;
        let mut tries = if is_begun { TRIES } else { 1 };
        loop {
            tries -= 1;
            let caller = proxy
                .limits
                .caller(self.network, &self.head.headers, &self.head.uri);
            let part = whole.part(length);
            let read = proxy.uploads.read(self.network, caller.is_stranger(), part);
            match read.await {
                Ok(upload) if upload.body.len() as u64 == length => return Ok(upload),
                Ok(_) => return Err(Problem::bad_request("The request's body broke off.")),
                // Nothing of the part has been read.
                Err(problem) if problem.kind() == Kind::TOO_BUSY && tries > 0 => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Sends a part to the app. Its memory is given back when the answer is there.
    async fn exchange(
        &self,
        target: &str,
        part: Upload,
        mut tries: u32,
    ) -> Result<(Asked, Place), Problem> {
        let (proxy, headers) = (self.proxy, &self.head.headers);
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            tries -= 1;
            let head = self.outgoing(Method::POST, target, part.body.len())?;
            let caller = proxy.limits.caller(self.network, headers, &self.head.uri);
            let answer = match proxy.caps.take(self.network, caller).await {
                Ok(place) => {
                    let body = full(part.body.clone());
                    let asked = proxy.exchange(self.visitor, head, body).await;
                    asked.map(|asked| (asked, place))
                }
                Err(problem) => {
                    proxy.metrics.turned_away_total.add(1);
                    Err(problem)
                }
            };
            let status = match &answer {
                Ok((asked, _)) => asked.response.status().as_u16(),
                Err(problem) => problem.status(),
            };
            // A part may come twice, so a fault that passes is tried again.
            if !(502..=504).contains(&status) || tries == 0 {
                return answer;
            }
            drop(answer);
            sleep(backoff.next()).await;
        }
    }

    /// The head of a request about the upload: what the client sent, for another path.
    fn outgoing(&self, method: Method, target: &str, length: usize) -> Result<Parts, Problem> {
        let mut head = self.head.clone();
        head.method = method;
        let project = project(head.uri.path()).unwrap_or_default();
        let mut target = format!("/projects/{project}/uploads{target}");
        // The token of a client may stand in its query.
        let query = head.uri.query().unwrap_or_default();
        for pair in query.split('&').filter(|pair| raw::token(pair).is_some()) {
            let before = if target.contains('?') { '&' } else { '?' };
            target = format!("{target}{before}{pair}");
        }
        head.uri = target.parse().map_err(|_| bad_target())?;
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        Ok(head)
    }
}

/// The id of an upload that the app has begun: the end of its address.
fn id(asked: &Asked) -> Option<String> {
    if asked.response.status() != StatusCode::CREATED {
        return None;
    }
    let location = asked.response.headers().get(header::LOCATION)?;
    let (_, id) = location.to_str().ok()?.rsplit_once('/')?;
    let is_id = |id: &str| {
        id.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
    };
    (!id.is_empty() && is_id(id)).then(|| id.to_owned())
}

/// An upload that the app has begun. Dropping it makes the app give the upload up, whatever the reason is: if the client
/// is gone, the request that holds this is dropped, too.
struct Begun {
    id: String,
    upstream: Arc<Upstream>,
    patience: Duration,
    /// The head of the request that gives it up; `None` once the upload is whole.
    head: Option<Parts>,
}

impl Begun {
    fn new(proxy: &Proxy, id: String, head: Parts) -> Self {
        Self {
            id,
            upstream: proxy.upstream.clone(),
            patience: proxy.settings.proxy_timeout,
            head: Some(head),
        }
    }

    /// Notes that the upload is whole, and must not be given up any more.
    fn end(mut self) {
        self.head = None;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // While the relay ends there may be no runtime any more.
        let (Some(head), Ok(runtime)) = (self.head.take(), Handle::try_current()) else {
            return;
        };
        let (upstream, patience) = (self.upstream.clone(), self.patience);
        runtime.spawn(async move {
            let request = Request::from_parts(head, full(""));
            // If this fails, too, the app gives the upload up an hour later.
            match timeout(patience, upstream.send(request)).await {
                Ok(Ok(answer)) => {
                    tracing::debug!(status = %answer.status(), "an upload was given up")
                }
                Ok(Err(error)) => tracing::debug!(%error, "an upload is left over"),
                Err(_) => tracing::debug!("an upload is left over"),
            }
        });
    }
}

/// A body that is read in parts.
struct Whole<B> {
    body: B,
    /// The bytes that have come of the next part.
    rest: Bytes,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Whole<B> {
    fn new(body: B) -> Self {
        Self {
            body,
            rest: Bytes::new(),
        }
    }

    /// The next bytes, `length` of them.
    fn part(&mut self, length: u64) -> Part<'_, B> {
        Part {
            whole: self,
            left: length,
        }
    }

    /// Reads what is still coming, up to a bound.
    async fn discard(&mut self) {
        let until = Instant::now() + DISCARDED_WITHIN;
        let mut left = DISCARDED;
        while left > 0 {
            let Ok(Some(Ok(frame))) = timeout_at(until, self.body.frame()).await else {
                return;
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(length as u64);
        }
    }
}

/// A part of a body.
struct Part<'w, B> {
    whole: &'w mut Whole<B>,
    left: u64,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Part<'_, B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            let come = self.whole.rest.len();
            if come > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(come);
                self.left -= length as u64;
                let piece = self.whole.rest.split_to(length);
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match ready!(Pin::new(&mut self.whole.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Trailers concern one connection only.
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.whole.rest = piece;
                    }
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use std::convert::Infallible;

    #[tokio::test]
    async fn a_body_comes_in_parts_however_its_pieces_lie() {
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for piece in [1, 7, 100, 999, 1000] {
            let frames: Vec<Result<_, Infallible>> = all
                .chunks(piece)
                .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
                .collect();
            let mut whole = Whole::new(StreamBody::new(stream::iter(frames)));
            let mut read = Vec::new();
            for length in [300, 300, 300, 100] {
                let part = whole.part(length);
                assert_eq!(part.size_hint().exact(), Some(length));
                let part = part.collect().await.unwrap().to_bytes();
                assert_eq!(part.len() as u64, length, "{piece}");
                read.extend_from_slice(&part);
            }
            assert_eq!(read, all, "{piece}");
            // There is no more.
            let rest = whole.part(5).collect().await.unwrap().to_bytes();
            assert_eq!(rest.len(), 0);
        }
    }

    #[test]
    fn only_large_uploads_go_in_parts() {
        const MIB: usize = 1 << 20;
        for (method, path, bytes, most, is_large) in [
            ("POST", "/projects/p/assets", 9 * MIB, 16 * MIB, true),
            ("POST", "/projects/a%2Fb/assets", 9 * MIB, 16 * MIB, true),
            ("POST", "/projects/p/assets?x=1", 8 * MIB, 7 * MIB, true),
            ("POST", "/projects/p/assets", 8 * MIB, 16 * MIB, false),
            // A part would be larger than a body.
            ("POST", "/projects/p/assets", 9 * MIB, 4 * MIB, false),
            ("PUT", "/projects/p/assets", 9 * MIB, 16 * MIB, false),
            ("POST", "/projects//assets", 9 * MIB, 16 * MIB, false),
            ("POST", "/projects/p/q/assets", 9 * MIB, 16 * MIB, false),
            ("POST", "/tasks", 9 * MIB, 16 * MIB, false),
        ] {
            let body = Full::new(Bytes::from(vec![0; bytes]));
            let request = Request::builder().method(method).uri(path);
            let request = request.body(body).unwrap();
            let expected = is_large.then_some(bytes as u64);
            assert_eq!(length(&request, most), expected, "{method} {path} {bytes}");
        }
    }
}
