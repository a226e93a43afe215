//! The body of an answer in parts, each of which the caller has asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::guest::limits::Meter;

/// A body that counts the processor time of its instance from zero again after each part.
pub(crate) struct Answered {
    body: WasiBody,
    meter: Arc<Meter>,
}

impl Answered {
    /// Watches `body`, the answer of the instance that `meter` measures.
    pub(crate) fn new(body: WasiBody, meter: Arc<Meter>) -> Self {
        Self { body, meter }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = frame {
            self.meter.answered();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
