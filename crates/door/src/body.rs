//! The body of a request, with a limit and a deadline.

use std::{pin::Pin, time::Duration};

use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
};
use platform::Clock;
use problem::{Kind, Problem};

/// The time that a body may take to arrive: as long as the relay waits for an answer.
const WITHIN: Duration = Duration::from_secs(60);

/// The longest body that is read although it is refused, in bytes: the relay sends none that is longer. Such a body is
/// read because a caller that is still sending when the answer comes may see a broken connection instead of the answer.
const DISCARDED: usize = wire::MAX_UPDATE_BYTES;

/// The chunks of a body. An error means that the connection broke off.
pub(crate) type Chunks<'a> = Pin<Box<dyn Stream<Item = Result<Vec<u8>, BrokenOff>> + 'a>>;

/// The error of a connection that broke off before the body ended.
#[derive(Debug)]
pub(crate) struct BrokenOff;

/// A body that has not been read yet.
pub(crate) struct Body<'a> {
    /// The length that the head declares.
    pub(crate) declared: Option<usize>,
    pub(crate) chunks: Chunks<'a>,
}

/// The most bytes of a body that may have `limit` bytes, on a host that takes `most`. The envelope that a relay puts
/// around an update is allowed in addition, because `most` is the size of an update.
pub(crate) fn on_host(limit: usize, most: usize) -> usize {
    let envelope = limit.saturating_sub(wire::MAX_UPDATE_BYTES);
    limit.min(most.saturating_add(envelope))
}

impl Body<'_> {
    /// Reads the body.
    ///
    /// # Errors
    /// 413 if it has more than `limit` bytes, 408 if it does not arrive in a minute, and 400 if it is shorter than
    /// declared.
    pub(crate) async fn read(self, limit: usize, clock: &dyn Clock) -> Result<Vec<u8>, Problem> {
        let declared = self.declared.unwrap_or(0);
        if declared > limit {
            if declared <= DISCARDED {
                let discarding = std::pin::pin!(self.chunks.for_each(async |chunk| drop(chunk)));
                select(discarding, clock.sleep(WITHIN)).await;
            }
            return Err(Problem::too_large(limit));
        }
        let reading = std::pin::pin!(collect(self.chunks, declared, limit));
        match select(reading, clock.sleep(WITHIN)).await {
            Either::Left((body, _)) => body,
            Either::Right(_) => Err(Problem::new(
                Kind::REQUEST_TIMEOUT,
                format!("The body did not arrive within {} s.", WITHIN.as_secs()),
            )),
        }
    }
}

async fn collect(
    mut chunks: Chunks<'_>,
    declared: usize,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    let too_early = || Problem::bad_request("The body ended too early.");
    let mut body = Vec::with_capacity(declared);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|BrokenOff| too_early())?;
        if body.len() + chunk.len() > limit {
            return Err(Problem::too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    if body.len() < declared {
        return Err(too_early());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use platform::native::{SetClock, block_on};

    fn read(
        declared: Option<usize>,
        chunks: Vec<Result<Vec<u8>, BrokenOff>>,
    ) -> Result<Vec<u8>, u16> {
        let chunks: Chunks<'_> = Box::pin(stream::iter(chunks));
        let body = Body { declared, chunks };
        block_on(body.read(4, &SetClock::default())).map_err(|problem| problem.status())
    }

    #[test]
    fn a_body_ends_at_its_limit() {
        let (ab, cd) = (|| Ok(b"ab".to_vec()), || Ok(b"cd".to_vec()));
        assert_eq!(read(None, vec![]), Ok(vec![]));
        assert_eq!(read(Some(4), vec![ab(), cd()]), Ok(b"abcd".to_vec()));
        assert_eq!(read(None, vec![ab(), cd()]), Ok(b"abcd".to_vec()));
        assert_eq!(read(Some(5), vec![]), Err(413));
        assert_eq!(read(None, vec![ab(), cd(), ab()]), Err(413));
        assert_eq!(read(None, vec![ab(), cd(), Ok(b"e".to_vec())]), Err(413));
        assert_eq!(read(None, vec![Ok(b"abcde".to_vec())]), Err(413));
        assert_eq!(read(Some(3), vec![ab()]), Err(400));
        assert_eq!(read(None, vec![ab(), Err(BrokenOff)]), Err(400));
    }

    /// A caller that is still sending would see a broken connection instead of the answer.
    #[test]
    fn a_body_that_is_too_large_is_read_before_it_is_refused() {
        for (declared, is_read) in [
            (5, true),
            (wire::MAX_UPDATE_BYTES, true),
            (wire::MAX_UPDATE_BYTES + 1, false),
        ] {
            let was_read = std::cell::Cell::new(false);
            let chunks = stream::once(async {
                was_read.set(true);
                Ok(Vec::new())
            });
            let body = Body {
                declared: Some(declared),
                chunks: Box::pin(chunks),
            };
            let problem = block_on(body.read(4, &SetClock::default())).unwrap_err();
            assert_eq!(
                (problem.status(), was_read.get()),
                (413, is_read),
                "{declared}"
            );
        }
    }

    #[test]
    fn a_host_limits_updates_and_not_their_envelopes() {
        const MIB: usize = 1 << 20;
        for (limit, most, expected) in [
            (64 << 10, 9 * MIB, 64 << 10),
            (wire::MAX_UPDATE_BYTES, 9 * MIB, 9 * MIB),
            (wire::MAX_APPEND_BYTES, 9 * MIB, 10 * MIB),
            (wire::MAX_UPDATE_BYTES, 32 * MIB, wire::MAX_UPDATE_BYTES),
            (wire::MAX_APPEND_BYTES, 32 * MIB, wire::MAX_APPEND_BYTES),
        ] {
            assert_eq!(
                on_host(limit, most),
                expected,
                "{limit} on a host of {most}"
            );
        }
    }

    #[test]
    fn a_body_that_never_ends_is_given_up() {
        let body = Body {
            declared: None,
            chunks: Box::pin(stream::pending()),
        };
        let clock = SetClock::default();
        let problem = block_on(body.read(4, &clock)).unwrap_err();
        assert_eq!((problem.status(), clock.0.get()), (408, 60));
    }
}
