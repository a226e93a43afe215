//! The body of a response to a guest's request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body that ends in an error if nothing comes for too long.
pub(crate) struct Timed {
    body: Option<WasiBody>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    between: Duration,
}

impl Timed {
    /// Limits the time between two frames of `body` to `between`.
    pub(crate) fn new(body: WasiBody, between: Duration) -> Self {
        Self {
            body: Some(body),
            sleep: None,
            between,
        }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            self.sleep = None;
            return Poll::Ready(frame);
        }
        let between = self.between;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(between)));
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.body = None;
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
