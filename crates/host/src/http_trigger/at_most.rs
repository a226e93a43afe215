//! A body that breaks off at a limit.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::Error;

/// A request's body of a limited number of bytes.
pub(crate) struct AtMost<B> {
    body: Pin<Box<B>>,
    left: usize,
}

impl<B> AtMost<B> {
    /// Limits a body.
    pub(crate) fn new(body: B, most: usize) -> Self {
        Self {
            body: Box::pin(body),
            left: most,
        }
    }
}

impl<B> Body for AtMost<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(self.body.as_mut().poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => frame,
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(Some(Err(Error::HttpRequestBodySize(None)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn a_body_breaks_off_beyond_its_limit() {
        let read = async |length: usize| {
            let body = Full::new(Bytes::from(vec![7; length]));
            AtMost::new(body, 4)
                .collect()
                .await
                .map(|body| body.to_bytes().len())
        };
        assert_eq!(read(4).await.unwrap(), 4);
        assert!(read(5).await.is_err());
    }
}
