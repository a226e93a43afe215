//! A TCP proxy between a relay and its app that can delay what it passes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// The interval at which a delayed piece checks whether its delay is over.
const LOOK: Duration = Duration::from_millis(10);

/// A proxy for TCP connections. Dropping it cuts them.
pub struct Cable {
    /// The address to connect to instead.
    pub address: String,
    delay: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Cable {
    /// Starts a proxy to the address `to`, without delay.
    pub async fn to(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let delay = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(run(listener, to.to_owned(), delay.clone()));
        Self {
            address,
            delay,
            task,
        }
    }

    /// Delays every piece by this much in each direction, including pieces under way.
    pub fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap();
        self.delay.store(millis, Ordering::Relaxed);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, to: String, delay: Arc<AtomicU64>) {
    // The connections end with this task.
    let mut lines = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(&to).await else {
            continue;
        };
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        lines.spawn(copy(near_read, far_write, delay.clone()));
        lines.spawn(copy(far_read, near_write, delay.clone()));
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Arc<AtomicU64>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let arrived = Instant::now();
        while arrived.elapsed() < Duration::from_millis(delay.load(Ordering::Relaxed)) {
            sleep(LOOK).await;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
