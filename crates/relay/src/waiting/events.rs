//! The streams of events that the relay holds: server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>) about one task, or all tasks of a project.
//!
//! The app writes the events, and the relay holds the stream. Whenever something may have changed, and at an interval to
//! check whether the client may still ask, it asks the app on behalf of the client what is new since the last event. What
//! a stream holds is bounded: the app is asked only after the client's connection has taken what came before.

use crate::app::upstream::read_body;
use crate::edge::body::Body;
use crate::edge::caps::Place;
use crate::edge::problem::response;
use crate::edge::proxy::Asked;
use crate::edge::visitor::Visitor;
use crate::waiting::desk::Desk;
use crate::waiting::waiters::{Subject, Waiter};
use bytes::Bytes;
use futures_util::stream;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until};

/// The header by which a client resumes a stream, and in which the relay names to the app the last event that was sent.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The header that keeps nginx from collecting a stream before it passes it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The most bytes of one answer of the app. The last event may exceed [`wire::MAX_EVENTS`] by the size of its task.
const MAX_ANSWER: usize = wire::MAX_EVENTS + 1024 * 1024;

/// The interval at which a silent stream sends a comment, so that no proxy takes it for dead.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// A comment.
const COMMENT: &[u8] = b":\n\n";

/// The pause after the app could not be asked. It doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The app's word on how a stream goes on.
enum Next {
    /// The place after which more events follow at once.
    More(HeaderValue),
    /// The place after which no event follows yet.
    Later(HeaderValue),
    /// The stream has ended.
    End,
}

impl Next {
    /// Reads the value of the header [`wire::TASK_EVENTS`]; `None` if it is not valid.
    fn read(told: &str) -> Option<Self> {
        if told == wire::END_OF_EVENTS {
            return Some(Self::End);
        }
        match told.strip_suffix(wire::MORE_EVENTS) {
            Some(place) => HeaderValue::from_str(place).ok().map(Self::More),
            None => HeaderValue::from_str(told).ok().map(Self::Later),
        }
    }
}

/// The answer to a question.
enum Answer {
    /// The events, and how the stream goes on.
    Events(Bytes, Next),
    /// The app could not be asked. A later try may succeed.
    Unknown,
    /// The client may no longer ask, or there is nothing more to ask about.
    Refused,
}

/// A stream that is held.
struct Held {
    desk: Arc<Desk>,
    visitor: Arc<Visitor>,
    /// The head of the request, with the credentials of its client.
    head: Parts,
    waiter: Waiter,
    /// The way to the connection, for which at most one piece waits.
    sender: mpsc::Sender<Bytes>,
    _place: Place,
}

impl Desk {
    /// Answers a request for a stream of events.
    pub(crate) async fn stream(
        self: &Arc<Self>,
        visitor: &Arc<Visitor>,
        request: Request<Incoming>,
        subject: Subject,
    ) -> Response<Body> {
        let begun = self.begin(visitor, request, subject).await;
        begun.unwrap_or_else(|problem| response(&problem))
    }

    async fn begin(
        self: &Arc<Self>,
        visitor: &Arc<Visitor>,
        request: Request<Incoming>,
        subject: Subject,
    ) -> Result<Response<Body>, Problem> {
        let place = self.place(visitor, &request)?;
        let waiter = self.waiters.enter(subject);
        let head = request.into_parts().0;
        let (mut asked, turn) = self.ask(visitor, &head, None).await?;
        let told = asked.events.take();
        let Some(next) = told.as_deref().and_then(Next::read) else {
            // The request is refused, or the client has received the end already.
            return self.finish((asked, turn)).await;
        };
        let (mut answer, body) = asked.response.into_parts();
        let first = read_body(body, MAX_ANSWER).await;
        let first = first.map_err(|_| crate::edge::problem::app_unreachable())?;
        drop(turn);
        answer.headers.remove(header::CONTENT_LENGTH);
        answer
            .headers
            .insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        let (sender, receiver) = mpsc::channel(1);
        let held = Held {
            desk: self.clone(),
            visitor: visitor.clone(),
            head,
            waiter,
            sender,
            _place: place,
        };
        tokio::spawn(held.run(first, next));
        let pieces = stream::unfold(receiver, |mut receiver| async {
            let piece = receiver.recv().await?;
            Some((Ok(Frame::data(piece)), receiver))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        Ok(Response::from_parts(answer, body))
    }
}

impl Held {
    /// Goes on until the stream ends, its client is gone or may no longer ask, or the relay drains.
    async fn run(self, mut events: Bytes, mut next: Next) {
        loop {
            if !events.is_empty() && self.sender.send(events).await.is_err() {
                return;
            }
            let place = match next {
                Next::End => return,
                Next::More(place) => place,
                Next::Later(place) => {
                    if let Ok(mark) = place.to_str() {
                        self.waiter.saw(mark);
                    }
                    if !self.wait(self.desk.settings.recheck_interval).await {
                        return;
                    }
                    place
                }
            };
            match self.ask_in_time(&place).await {
                Some((news, then)) => (events, next) = (news, then),
                None => return,
            }
        }
    }

    /// Waits for a change, but no longer than this. Returns whether the stream goes on.
    async fn wait(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        loop {
            let comment = Instant::now() + COMMENT_EVERY;
            tokio::select! {
                () = self.waiter.changed() => return true,
                () = sleep_until(end.min(comment)) => {}
                () = self.desk.draining.cancelled() => return false,
                () = self.sender.closed() => return false,
            }
            if Instant::now() >= end {
                return true;
            }
            if self.sender.send(Bytes::from_static(COMMENT)).await.is_err() {
                return false;
            }
        }
    }

    /// Asks what is new. While the app is away, the stream stays open for as long as access may go unchecked.
    async fn ask_in_time(&self, place: &HeaderValue) -> Option<(Bytes, Next)> {
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ask(place).await {
                Answer::Events(events, next) => return Some((events, next)),
                Answer::Refused => return None,
                Answer::Unknown if since.elapsed() >= self.desk.settings.recheck_patience => {
                    return None;
                }
                Answer::Unknown => {}
            }
            let again = Instant::now() + pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = sleep_until(again) => {}
                () = self.desk.draining.cancelled() => return None,
                () = self.sender.closed() => return None,
            }
            // A comment shows a client that has waited for so long that the stream lives.
            if since.elapsed() >= COMMENT_EVERY {
                let _ = self.sender.try_send(Bytes::from_static(COMMENT));
            }
        }
    }

    async fn ask(&self, place: &HeaderValue) -> Answer {
        let mut head = self.head.clone();
        head.headers.insert(LAST_EVENT_ID, place.clone());
        let asked: Result<(Asked, Option<OwnedSemaphorePermit>), Problem> = tokio::select! {
            asked = self.desk.ask(&self.visitor, &head, None) => asked,
            () = self.sender.closed() => return Answer::Refused,
        };
        let Ok((asked, _turn)) = asked else {
            return Answer::Unknown;
        };
        let status = asked.response.status();
        let next = asked.events.as_deref().and_then(Next::read);
        match (status, next) {
            (StatusCode::OK, Some(next)) => {
                match read_body(asked.response.into_body(), MAX_ANSWER).await {
                    Ok(events) => Answer::Events(events, next),
                    Err(_) => Answer::Unknown,
                }
            }
            (status, _) => {
                self.desk.proxy.discard(asked).await;
                if status.is_server_error() {
                    Answer::Unknown
                } else {
                    Answer::Refused
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_says_how_a_stream_goes_on() {
        let place = |told: &str| match Next::read(told)? {
            Next::More(place) => Some((true, place)),
            Next::Later(place) => Some((false, place)),
            Next::End => None,
        };
        let later = HeaderValue::from_static("7");
        assert_eq!(place("7"), Some((false, later)));
        let more = HeaderValue::from_static("3/7");
        assert_eq!(place("3/7 more"), Some((true, more)));
        assert!(matches!(Next::read("end"), Some(Next::End)));
        assert!(Next::read("\n").is_none());
    }
}
