//! The line: a request that carries many requests of a relay, each of which passes the door, too.
//!
//! All of them have the same ports, so that one database connection serves them all. A line ends when the relay ends
//! its body, when a limit of `wire` is reached, when much work after answers is under way, or when the instance has
//! taken much memory, because an instance never gives memory back.

use std::pin::Pin;

use futures_util::{
    SinkExt, StreamExt,
    future::{Either, select},
    stream::{self, FuturesUnordered},
};
use platform::Ports;
use problem::Problem;
use wire::{ByteVec, LineAnswer, LineReader, LineRequest};

use crate::{
    Admitted, Head, Reply, Routes,
    admit::admit_on_line,
    body::{Body, Chunks},
    reply::{AfterReply, HungUp, Outlet, Streaming},
};

/// The memory of an instance beyond which its line ends, in bytes.
const MEMORY: usize = 64 * 1024 * 1024;

/// The size from which on a body is sent in a chunk of its own, in bytes. A smaller body is copied behind its head,
/// because small answers are many, and each chunk is sent by itself.
const LARGE: usize = 64 * 1024;

/// The most answers whose later work is under way. At this number a line ends, so that the work can go on.
const MAX_AFTER_REPLY: usize = 4;

/// The answer to a request of a line, on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply<'a>, Problem>> + 'a>>;

/// Answers a request that is a line: `answer` answers the requests on it.
///
/// # Errors
/// 400 if the body was read already.
pub fn line<'a, R: Routes + 'a>(
    request: &Admitted<'a, R>,
    answer: fn(Admitted<'a, R>) -> Answering<'a>,
) -> Result<Reply<'a>, Problem> {
    let line = Line {
        ports: request.ports(),
        chunks: request.chunks()?,
        reader: LineReader::new(wire::MAX_LINE_REQUEST),
        after_reply: FuturesUnordered::new(),
        answer,
        requests: 0,
        read: 0,
        sent: 0,
    };
    Ok(Reply::streaming(200, line)
        .media_type(wire::CONTENT_TYPE)
        .header("cache-control", "no-store")
        // With this header, proxies of the nginx family pass the answer on as it comes.
        .header("x-accel-buffering", "no"))
}

struct Line<'a, R> {
    ports: Ports<'a>,
    chunks: Chunks<'a>,
    reader: LineReader,
    answer: fn(Admitted<'a, R>) -> Answering<'a>,
    /// The work after answers that is under way.
    after_reply: FuturesUnordered<AfterReply<'a>>,
    /// The number of requests so far.
    requests: usize,
    /// The bytes of the body so far.
    read: usize,
    /// The bytes of the answer so far.
    sent: usize,
}

impl<R: Routes> Streaming for Line<'_, R> {
    fn send<'s>(self: Box<Self>, outlet: Outlet) -> AfterReply<'s>
    where
        Self: 's,
    {
        Box::pin(self.run(outlet))
    }
}

impl<'a, R: Routes> Line<'a, R> {
    async fn run(mut self, mut outlet: Outlet) {
        let mut end = self.ports.clock.sleep(wire::LINE_TIME);
        loop {
            let message = match select(Box::pin(self.next()), &mut end).await {
                Either::Left((Some(message), _)) => message,
                Either::Left((None, _)) | Either::Right(_) => break,
            };
            let reply = match self.admit(&message) {
                Ok(admitted) => (self.answer)(admitted).await.unwrap_or_else(Reply::from),
                Err(problem) => Reply::from(problem),
            };
            drop(message);
            match self.answer(&mut outlet, reply).await {
                Ok(false) => {}
                Ok(true) | Err(HungUp) => break,
            }
        }
        // This ends the answer, so that the relay does not wait for the work.
        drop(outlet);
        while self.after_reply.next().await.is_some() {}
    }

    /// Waits for the next request, and goes on with the work after answers. `None` at the end of the body.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.reader.next_message() {
                Ok(None) => {}
                Ok(message) => return message,
                Err(wire::TooLong) => {
                    tracing::warn!("a request on a line was too large");
                    return None;
                }
            }
            let chunk = if self.after_reply.is_empty() {
                self.chunks.next().await
            } else {
                // The work comes first, because a busy relay would never leave time for it.
                match select(self.after_reply.next(), self.chunks.next()).await {
                    Either::Left(_) => continue,
                    Either::Right((chunk, _)) => chunk,
                }
            };
            let chunk = chunk?.ok()?;
            self.read += chunk.len();
            self.reader.push(&chunk);
        }
    }

    fn admit(&self, message: &[u8]) -> Result<Admitted<'a, R>, Problem> {
        let request: LineRequest<ByteVec> =
            wire::decode(message).map_err(|error| Problem::bad_request(error.to_string()))?;
        let head = Head::new(&request.method, &request.target, Vec::new(), None);
        let bytes = Vec::from(request.body);
        let body = Body {
            declared: Some(bytes.len()),
            chunks: Box::pin(stream::iter([Ok(bytes)])),
        };
        admit_on_line(self.ports, head, body)
    }

    /// Sends an answer, and keeps the work that follows it. Returns whether it is the last one.
    async fn answer(&mut self, outlet: &mut Outlet, reply: Reply<'a>) -> Result<bool, HungUp> {
        self.requests += 1;
        self.after_reply.extend(reply.after_reply);
        let media_type = reply
            .headers
            .into_iter()
            .find_map(|(name, value)| (name == "content-type").then_some(value));
        let body = ByteVec::from(reply.body.unwrap_or_default());
        self.sent += body.len();
        let is_last = self.is_full(memory());
        let answer = LineAnswer {
            status: reply.status,
            media_type: media_type.unwrap_or_default(),
            body,
            is_last,
        };
        if answer.body.len() < LARGE {
            outlet.send(wire::encode_framed(&answer)).await?;
        } else {
            for chunk in answer.into_chunks() {
                outlet.send(chunk).await?;
            }
        }
        Ok(is_last)
    }

    /// Returns whether the line has reached a bound, in an instance that has taken `memory` bytes.
    fn is_full(&self, memory: usize) -> bool {
        self.requests >= wire::LINE_REQUESTS
            || self.read >= wire::LINE_BYTES
            || self.sent >= wire::LINE_BYTES
            || self.after_reply.len() >= MAX_AFTER_REPLY
            || memory >= MEMORY
    }
}

/// The memory that this instance has taken, in bytes.
#[cfg(target_arch = "wasm32")]
fn memory() -> usize {
    core::arch::wasm32::memory_size::<0>() * 64 * 1024
}

/// Returns 0, because tests do not measure memory.
#[cfg(not(target_arch = "wasm32"))]
fn memory() -> usize {
    0
}

#[cfg(all(test, not(target_arch = "wasm32")))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use futures_util::sink;
    use platform::native::{MapConfig, World, block_on};

    use super::*;
    use crate::{
        body::BrokenOff,
        routes::Sync,
        visit::{Arrival, visit},
    };

    fn request(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
        wire::encode_framed(&LineRequest {
            method: method.into(),
            target: target.into(),
            body: ByteVec::from(body.to_vec()),
        })
    }

    thread_local!(static DONE: RefCell<usize> = const { RefCell::new(0) });

    async fn opened(admitted: Admitted<'_, Sync>) -> Result<Reply<'_>, Problem> {
        line(&admitted, |asked| Box::pin(answered(asked)))
    }

    async fn answered(asked: Admitted<'_, Sync>) -> Result<Reply<'_>, Problem> {
        asked.body(wire::MAX_APPEND_BYTES).await?;
        let body = match asked.route() {
            Sync::Updates { .. } => vec![0; 1 << 20],
            route => format!("{route:?}").into_bytes(),
        };
        let work = async { DONE.with_borrow_mut(|done| *done += 1) };
        let reply = Reply::new(200).media_type("text/plain").body(body);
        Ok(reply.then(work))
    }

    /// The answers to requests on a line, and the number of handlers whose later work was done. Each answer is the
    /// name of the route, but a large one for `Updates`.
    fn answers(asked: Vec<Vec<u8>>) -> (Vec<LineAnswer<ByteVec>>, usize) {
        DONE.take();
        let world = World::new(MapConfig::from_pairs(&[("internal_token", "t")]));
        let token = ("authorization".to_owned(), b"Bearer t".to_vec());
        let head = Head::new("POST", "/internal/line", vec![token], None);
        let chunks = asked.into_iter().map(Ok::<_, BrokenOff>);
        let body = Body {
            declared: None,
            chunks: Box::pin(stream::iter(chunks)),
        };
        let arrival = Arrival::at::<Sync>(head, body);
        let mut reply = block_on(visit(world.ports(), arrival, &[], opened));
        assert_eq!(reply.status(), 200);
        let sent = Rc::new(RefCell::new(LineReader::new(usize::MAX)));
        let outlet = sink::unfold(sent.clone(), async |sent, chunk: Vec<u8>| {
            sent.borrow_mut().push(&chunk);
            Ok::<_, HungUp>(sent)
        });
        block_on(reply.streaming.take().unwrap().send(Box::pin(outlet)));
        let mut answers = Vec::new();
        while let Some(answer) = sent.borrow_mut().next_message().unwrap() {
            answers.push(wire::decode(&answer).unwrap());
        }
        (answers, DONE.take())
    }

    #[test]
    fn a_line_carries_what_a_relay_asks_often_and_nothing_else() {
        let asked = [
            ("GET", "/health", 200),
            ("POST", "/internal/append", 200),
            ("GET", "/internal/rooms/p/state?version=x", 200),
            ("GET", "/internal/rooms/p/updates?after=1", 200),
            ("POST", "/internal/heads", 200),
            ("POST", "/internal/access", 200),
            ("POST", "/internal/append/", 404),
            ("GET", "/internal/append", 405),
            ("POST", "/internal/line", 404),
            ("POST", "/internal/sweep", 404),
            ("POST", "/internal/merge/p", 404),
            ("GET", "/sync/p", 404),
            ("POST", "/sync/p", 404),
        ];
        let mut requests: Vec<Vec<u8>> = asked
            .iter()
            .map(|(method, target, _)| request(method, target, b"x"))
            .collect();
        requests.push([&3u32.to_be_bytes()[..], b"abc"].concat());
        let (answers, done) = answers(requests);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let mut expected: Vec<u16> = asked.iter().map(|(_, _, status)| *status).collect();
        expected.push(400);
        assert_eq!(statuses, expected);
        assert_eq!(&answers[1].body[..], b"Append");
        assert_eq!(answers[1].media_type, "text/plain");
        assert_eq!(answers[6].media_type, problem::MEDIA_TYPE);
        assert!(answers.iter().all(|answer| !answer.is_last));
        assert_eq!(done, 6, "the work after each answer");
    }

    #[test]
    fn a_line_ends_at_its_bounds() {
        let small = request("POST", "/internal/append", b"");
        let large = request("POST", "/internal/append", &[0; 1 << 20]);
        for (asked, answered) in [
            (
                vec![small.clone(); wire::LINE_REQUESTS + 5],
                wire::LINE_REQUESTS,
            ),
            (vec![large; 12], 8),
            (
                vec![request("GET", "/internal/rooms/p/updates?after=1", b""); 12],
                8,
            ),
        ] {
            let (answers, done) = answers(asked);
            assert_eq!((answers.len(), done), (answered, answered));
            let last: Vec<bool> = answers.iter().map(|answer| answer.is_last).collect();
            assert_eq!(last.iter().position(|last| *last), Some(answered - 1));
        }
        let too_large = u32::try_from(wire::MAX_LINE_REQUEST + 1).unwrap();
        let (answers, _) = answers(vec![small, too_large.to_be_bytes().to_vec()]);
        assert_eq!(answers.len(), 1);
    }

    #[test]
    fn each_bound_ends_a_line_by_itself() {
        const MIB: usize = 1024 * 1024;
        let world = World::new(MapConfig::default());
        let work = |count: usize| {
            let works = (0..count).map(|_| Box::pin(async {}) as AfterReply<'_>);
            works.collect::<FuturesUnordered<_>>()
        };
        for (requests, read, sent, works, memory, is_full) in [
            (0, 0, 0, 0, 0, false),
            (4095, 8 * MIB - 1, 8 * MIB - 1, 3, 64 * MIB - 1, false),
            (4096, 0, 0, 0, 0, true),
            (0, 8 * MIB, 0, 0, 0, true),
            (0, 0, 8 * MIB, 0, 0, true),
            (0, 0, 0, 4, 0, true),
            (0, 0, 0, 0, 64 * MIB, true),
        ] {
            let line: Line<'_, Sync> = Line {
                ports: world.ports(),
                chunks: Box::pin(stream::empty()),
                reader: LineReader::new(0),
                answer: |asked| Box::pin(answered(asked)),
                after_reply: work(works),
                requests,
                read,
                sent,
            };
            let found = line.is_full(memory);
            assert_eq!(found, is_full, "{requests} {read} {sent} {works} {memory}");
        }
    }
}
