//! The uploads: the bodies of requests, read whole before the app is asked. So a client that sends slowly holds no place
//! of other requests and no instance of the app, but a part of a bounded memory, of which each address has a share.

use crate::edge::problem::{too_busy, too_slow};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use parking_lot::Mutex;
use problem::Problem;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// The largest body that is not counted, in bytes, because there are no more of them than connections.
const SMALL: usize = 64 * 1024;

/// The bytes of all bodies that are larger, and of those of one address.
const OF_ALL: usize = 128 * 1024 * 1024;
const OF_ADDRESS: usize = 32 * 1024 * 1024;

/// The bytes of those of strangers, so that a part is left for clients that the app has let in.
const OF_STRANGERS: usize = OF_ALL / 2;

/// The time that a body may wait for memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time after which a body must have come at [`RATE`], and is given up once it lags behind.
const GRACE: Duration = Duration::from_secs(10);

/// The bytes a second that a body must bring, on average.
const RATE: f64 = 16.0 * 1024.0;

/// The time that a body may pause.
const MOVES_WITHIN: Duration = Duration::from_secs(30);

/// The time that a body may take in all.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);

/// The memory of bodies.
pub(crate) struct Uploads {
    /// The most bytes of one body.
    most: usize,
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    addresses: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    patience: Duration,
    grace: Duration,
    moves_within: Duration,
    whole_within: Duration,
}

/// The memory of one body. It is given back when this is dropped.
struct Memory {
    _address: OwnedSemaphorePermit,
    _stranger: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

/// A body that has arrived.
pub(crate) struct Upload {
    pub(crate) body: Bytes,
    _memory: Option<Memory>,
}

impl Uploads {
    /// Makes the memory for bodies of at most this many bytes each.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            all: Arc::new(Semaphore::new(OF_ALL)),
            strangers: Arc::new(Semaphore::new(OF_STRANGERS)),
            addresses: Mutex::default(),
            patience: PATIENCE,
            grace: GRACE,
            moves_within: MOVES_WITHIN,
            whole_within: WHOLE_WITHIN,
        }
    }

    /// Reads a body that comes from this network. The client is a stranger if the app has not let it in.
    ///
    /// # Errors
    /// 413 if it is too large, 400 if it breaks off, 408 if it comes too slowly, and 503 if its memory is taken for
    /// longer than a client waits.
    pub(crate) async fn read<B>(
        &self,
        network: IpAddr,
        is_stranger: bool,
        body: B,
    ) -> Result<Upload, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let length = body.size_hint().upper();
        // A body without a `Content-Length` may become as large as any.
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.unwrap_or(self.most);
        if length > self.most {
            return Err(Problem::too_large(self.most));
        }
        let memory = if length > SMALL {
            let memory = self.memory(network, is_stranger, length);
            let memory = timeout(self.patience, memory).await;
            memory.map_err(|_| too_busy())?
        } else {
            None
        };
        Ok(Upload {
            body: self.arrived(body).await?,
            _memory: memory,
        })
    }

    /// Takes memory, first from the share of the address, so that an address that waits for its share holds no memory of
    /// others.
    async fn memory(&self, network: IpAddr, is_stranger: bool, length: usize) -> Option<Memory> {
        let length = u32::try_from(length).ok()?;
        let share = {
            let mut addresses = self.addresses.lock();
            addresses.retain(|_, share| Arc::strong_count(share) > 1);
            let share = addresses
                .entry(network)
                .or_insert_with(|| Arc::new(Semaphore::new(OF_ADDRESS)));
            share.clone()
        };
        // The semaphores are never closed.
        let address = share.acquire_many_owned(length).await.ok()?;
        let stranger = if is_stranger {
            let strangers = self.strangers.clone();
            Some(strangers.acquire_many_owned(length).await.ok()?)
        } else {
            None
        };
        Some(Memory {
            _address: address,
            _stranger: stranger,
            _all: self.all.clone().acquire_many_owned(length).await.ok()?,
        })
    }

    async fn arrived<B>(&self, mut body: B) -> Result<Bytes, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let begun = Instant::now();
        let end = begun + self.whole_within;
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        loop {
            let come = (first.len() + whole.len()) as f64;
            let due = begun + self.grace + Duration::from_secs_f64(come / RATE);
            let until = end.min(due).min(Instant::now() + self.moves_within);
            let frame = timeout_at(until, body.frame()).await;
            let Some(frame) = frame.map_err(|_| too_slow())? else {
                break;
            };
            let broken_off = |_| Problem::bad_request("The request's body broke off.");
            // Trailers concern one connection only.
            let Ok(piece) = frame.map_err(broken_off)?.into_data() else {
                continue;
            };
            if first.len() + whole.len() + piece.len() > self.most {
                return Err(Problem::too_large(self.most));
            }
            if first.is_empty() && whole.is_empty() {
                first = piece;
            } else {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&piece);
            }
        }
        Ok(if whole.is_empty() {
            first
        } else {
            whole.freeze()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use std::convert::Infallible;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn pieces(
        pieces: &[usize],
    ) -> impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Unpin + use<> {
        let frames: Vec<_> = pieces
            .iter()
            .map(|length| Ok(Frame::data(Bytes::from(vec![7; *length]))))
            .collect();
        stream::iter(frames)
    }

    fn quick() -> Uploads {
        Uploads {
            patience: Duration::from_millis(50),
            moves_within: Duration::from_millis(50),
            whole_within: Duration::from_millis(200),
            ..Uploads::new(wire::MAX_UPDATE_BYTES)
        }
    }

    #[tokio::test]
    async fn a_body_arrives_whole_or_not_at_all() {
        let uploads = quick();
        for (given, expected) in [
            (&[][..], Ok(0)),
            (&[3], Ok(3)),
            (&[0, 3, 0, 4], Ok(7)),
            (&[wire::MAX_UPDATE_BYTES], Ok(wire::MAX_UPDATE_BYTES)),
            (&[wire::MAX_UPDATE_BYTES, 1], Err(413)),
        ] {
            let read = uploads
                .read(HERE, false, StreamBody::new(pieces(given)))
                .await;
            let read = read.map(|upload| upload.body.len());
            assert_eq!(
                read.map_err(|problem| problem.status()),
                expected,
                "{given:?}"
            );
        }
        let too_large = Full::new(Bytes::from(vec![0; wire::MAX_UPDATE_BYTES + 1]));
        let refused = uploads.read(HERE, false, too_large).await.err().unwrap();
        assert_eq!(refused.status(), 413);
        assert_eq!(uploads.all.available_permits(), OF_ALL);
    }

    #[tokio::test]
    async fn a_body_that_does_not_move_is_given_up() {
        let uploads = quick();
        let stuck = StreamBody::new(pieces(&[3]).chain(stream::pending()));
        let refused = uploads.read(HERE, false, stuck).await.err().unwrap();
        assert_eq!(refused.status(), 408);
        // It moves, but would never end.
        let drip = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))),
                (),
            ))
        });
        let begun = Instant::now();
        let refused = uploads
            .read(HERE, false, StreamBody::new(Box::pin(drip)))
            .await;
        assert_eq!(refused.err().unwrap().status(), 408);
        assert!(begun.elapsed() >= uploads.whole_within);
    }

    #[tokio::test]
    async fn a_body_that_comes_too_slowly_is_given_up() {
        let uploads = Uploads {
            grace: Duration::from_millis(50),
            whole_within: Duration::from_secs(60),
            moves_within: Duration::from_secs(60),
            ..quick()
        };
        // It lacks bytes only once the rate has caught up with what has come.
        for (come, least) in [(3, 50), (1024, 110)] {
            let stuck = StreamBody::new(pieces(&[come]).chain(stream::pending()));
            let begun = Instant::now();
            let refused = uploads.read(HERE, false, stuck).await.err().unwrap();
            assert_eq!(refused.status(), 408);
            assert!(begun.elapsed() >= Duration::from_millis(least), "{come}");
        }
    }

    #[tokio::test]
    async fn strangers_leave_memory_for_clients_that_were_let_in() {
        let uploads = quick();
        let mut held = Vec::new();
        for last in 0..4 {
            let network = IpAddr::from([10, 0, 1, last]);
            // Each may become as large as any.
            let body = StreamBody::new(pieces(&[3]));
            held.push(uploads.read(network, true, body).await.ok().unwrap());
        }
        let body = || StreamBody::new(pieces(&[3]));
        let refused = uploads.read(HERE, true, body()).await.err().unwrap();
        assert_eq!(refused.status(), 503);
        assert!(uploads.read(HERE, false, body()).await.is_ok());
        held.pop();
        assert!(uploads.read(HERE, true, body()).await.is_ok());
    }

    #[tokio::test]
    async fn one_address_takes_its_share_of_memory() {
        let uploads = quick();
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(
                uploads
                    .read(HERE, false, StreamBody::new(pieces(&[3])))
                    .await
                    .ok()
                    .unwrap(),
            );
        }
        let refused = uploads
            .read(HERE, false, StreamBody::new(pieces(&[3])))
            .await;
        assert_eq!(refused.err().unwrap().status(), 503);
        let small = Full::new(Bytes::from(vec![0; SMALL]));
        assert!(uploads.read(HERE, false, small).now_or_never().is_some());
        assert!(
            uploads
                .read(THERE, false, StreamBody::new(pieces(&[3])))
                .await
                .is_ok()
        );
        held.pop();
        assert!(
            uploads
                .read(HERE, false, StreamBody::new(pieces(&[3])))
                .await
                .is_ok()
        );
        held.clear();
        assert!(
            uploads
                .read(THERE, false, StreamBody::new(pieces(&[3])))
                .await
                .is_ok()
        );
        assert_eq!(
            uploads.addresses.lock().len(),
            1,
            "an address that holds nothing is forgotten"
        );
    }
}
