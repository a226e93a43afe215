//! The answers of the app on their way to clients. The relay reads them from the app as they come, so that the app's
//! instance is free, and holds them in bounded memory for as long as the client takes.
//!
//! Most answers are small and whole at once; they go out with their head in one write. Of a larger one, a few MiB may
//! wait for its client, while all those that wait together are within one bound. Beyond that each has a small window,
//! so that an answer whose client reads is never held up by clients that do not.

use crate::app::upstream::UpstreamError;
use crate::edge::body::{Body, full};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

/// The bytes of an answer that are read before its head is sent on.
const FIRST: usize = 64 * 1024;

/// The time that the relay waits for these bytes if the answer does not have a length.
const FIRST_PATIENCE: Duration = Duration::from_millis(5);

/// The bytes of one answer that may wait for its client.
const OF_ONE: usize = 4 * 1024 * 1024;

/// The bytes of all answers that may wait for their clients.
const OF_ALL: usize = 64 * 1024 * 1024;

/// The bytes of one answer that may always wait.
const WINDOW: usize = 64 * 1024;

/// The memory of all answers.
pub(crate) struct Answers {
    waiting: Arc<Semaphore>,
}

impl Answers {
    /// Makes the memory, without any answer.
    pub(crate) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(OF_ALL)),
        }
    }

    /// Takes over the body of an answer. Once it is read whole, `place` is given back.
    ///
    /// # Errors
    /// If the answer breaks off at its beginning.
    pub(crate) async fn take_over(
        &self,
        mut body: Incoming,
        place: impl Send + Sync + 'static,
    ) -> Result<Body, UpstreamError> {
        let mut pieces = Vec::new();
        let mut read = 0;
        let is_short =
            |hint: hyper::body::SizeHint| hint.exact().is_some_and(|length| length <= FIRST as u64);
        // The rest of an answer whose head says a small length is on its way.
        let patience = (!is_short(body.size_hint())).then(|| Instant::now() + FIRST_PATIENCE);
        while read < FIRST {
            let frame = match patience {
                Some(deadline) => match timeout_at(deadline, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => break,
                },
                None => body.frame().await,
            };
            let Some(frame) = frame else {
                return Ok(full(joined(pieces)));
            };
            if let Ok(piece) = frame?.into_data() {
                read += piece.len();
                pieces.push(piece);
            }
        }
        if body.is_end_stream() {
            return Ok(full(joined(pieces)));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let reader = Reader {
            body,
            sender,
            own: Arc::new(Semaphore::new(OF_ONE)),
            window: Arc::new(Semaphore::new(WINDOW)),
            waiting: self.waiting.clone(),
            _place: place,
        };
        tokio::spawn(reader.run(joined(pieces)));
        Ok(Waiting { receiver }.boxed_unsync())
    }
}

fn joined(pieces: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([only]) => only,
        Err(pieces) => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces
                .iter()
                .for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    }
}

type Fault = Box<dyn Error + Send + Sync>;

/// A piece of an answer, and the memory that it takes.
struct Piece {
    bytes: Bytes,
    _memory: Memory,
}

/// The memory of a piece that waits.
enum Memory {
    Shared {
        _own: OwnedSemaphorePermit,
        _waiting: OwnedSemaphorePermit,
    },
    Window(
        #[expect(dead_code, reason = "it is given back when it is dropped")]
        Option<OwnedSemaphorePermit>,
    ),
}

/// The task that reads an answer from the app.
struct Reader<P> {
    body: Incoming,
    /// The channel of pieces. It is unbounded, because each piece in it holds its memory.
    sender: mpsc::UnboundedSender<Result<Piece, Fault>>,
    own: Arc<Semaphore>,
    window: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The place that the request holds until its answer is read.
    _place: P,
}

impl<P> Reader<P> {
    /// Reads until the answer ends, or its client is gone.
    async fn run(mut self, first: Bytes) {
        let mut next = Some(Ok(first));
        while let Some(read) = next {
            let sent = match read {
                Ok(bytes) => {
                    let memory = tokio::select! {
                        memory = self.memory(bytes.len()) => memory,
                        () = self.sender.closed() => return,
                    };
                    self.sender.send(Ok(Piece {
                        bytes,
                        _memory: memory,
                    }))
                }
                Err(error) => {
                    let _ = self.sender.send(Err(error));
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
            next = tokio::select! {
                read = next_piece(&mut self.body) => read,
                () = self.sender.closed() => return,
            };
        }
    }

    /// Takes memory for a piece. It waits only for this answer's own client.
    async fn memory(&self, length: usize) -> Memory {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if let Ok(own) = self.own.clone().try_acquire_many_owned(length)
            && let Ok(waiting) = self.waiting.clone().try_acquire_many_owned(length)
        {
            return Memory::Shared {
                _own: own,
                _waiting: waiting,
            };
        }
        let length = length.min(WINDOW as u32);
        // The semaphore is never closed.
        Memory::Window(self.window.clone().acquire_many_owned(length).await.ok())
    }
}

async fn next_piece(body: &mut Incoming) -> Option<Result<Bytes, Fault>> {
    loop {
        match body.frame().await? {
            // Trailers concern one connection only.
            Ok(frame) => match frame.into_data() {
                Ok(bytes) => return Some(Ok(bytes)),
                Err(_) => continue,
            },
            Err(error) => return Some(Err(error.into())),
        }
    }
}

/// The body of an answer that is read by a task of its own.
struct Waiting {
    receiver: mpsc::UnboundedReceiver<Result<Piece, Fault>>,
}

impl HttpBody for Waiting {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.receiver
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| piece.map(|piece| Frame::data(piece.bytes))))
    }
}
