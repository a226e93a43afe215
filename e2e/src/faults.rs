//! A TCP proxy between a relay and its app that fails in bursts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// The time for which a connection is drained after its last answer, so that the client reads that answer before a reset.
const DISCARD: Duration = Duration::from_secs(2);

/// The fate of a connection that carries data during a burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Answers with 500, as a failing ingress does.
    Errors,
    /// Resets the connection.
    Resets,
    /// Keeps the connection open, and passes nothing on any more.
    Silence,
}

/// The point at which a fault happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// The point before the app receives the request.
    Request,
    /// The point after the app has served the request, when it answers.
    Answer,
}

/// A proxy for TCP connections. Dropping it cuts them.
pub struct Faults {
    /// The address to connect to instead.
    pub address: String,
    now: Arc<Mutex<Option<(Fault, Point)>>>,
    task: JoinHandle<()>,
}

impl Faults {
    /// Starts a proxy to the address `to`, without faults.
    pub async fn between(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let now = Arc::new(Mutex::new(None));
        let task = tokio::spawn(run(listener, to.to_owned(), now.clone()));
        Self { address, now, task }
    }

    /// Begins a burst.
    pub fn begin(&self, fault: Fault, point: Point) {
        *self.now.lock().unwrap() = Some((fault, point));
    }

    /// Ends the burst. Silenced connections stay silent.
    pub fn end(&self) {
        *self.now.lock().unwrap() = None;
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, to: String, now: Arc<Mutex<Option<(Fault, Point)>>>) {
    // The connections end with this task.
    let mut lines = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(&to).await else {
            continue;
        };
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        lines.spawn(pass(near, far, now.clone()));
    }
}

async fn pass(mut near: TcpStream, mut far: TcpStream, now: Arc<Mutex<Option<(Fault, Point)>>>) {
    let mut asked = vec![0; 64 * 1024];
    let mut answered = vec![0; 64 * 1024];
    loop {
        let (point, count) = tokio::select! {
            count = near.read(&mut asked) => (Point::Request, count),
            count = far.read(&mut answered) => (Point::Answer, count),
        };
        let Ok(count @ 1..) = count else { return };
        let fault = now.lock().unwrap().filter(|(_, at)| *at == point);
        if let Some((fault, _)) = fault {
            return fail(near, fault).await;
        }
        let passed = match point {
            Point::Request => far.write_all(&asked[..count]).await,
            Point::Answer => near.write_all(&answered[..count]).await,
        };
        if passed.is_err() {
            return;
        }
    }
}

async fn fail(mut near: TcpStream, fault: Fault) {
    const ERROR: &[u8] =
        b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let mut scrap = vec![0; 64 * 1024];
    match fault {
        Fault::Errors => {
            if near.write_all(ERROR).await.is_ok() && near.shutdown().await.is_ok() {
                let rest = async { while let Ok(1..) = near.read(&mut scrap).await {} };
                // A client that sends for longer is cut off.
                let _ = timeout(DISCARD, rest).await;
            }
        }
        Fault::Resets => near.set_zero_linger().unwrap(),
        Fault::Silence => while let Ok(1..) = near.read(&mut scrap).await {},
    }
}
