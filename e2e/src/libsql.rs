//! A libSQL server: the small one of `platform`, behind a socket.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http_body_util::Full;
use platform::native::{self, HranaServer};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::server::{Reply, Request, Server};

/// The token that the server requires.
pub const TOKEN: &str = "a-database-token-for-tests";

/// A closure for the thread of the server of `platform`, which stays on that thread.
type Work = Box<dyn FnOnce(&mut HranaServer) + Send>;

/// A running server. Dropping it ends it; the file stays.
pub struct Libsql {
    server: Server,
    work: mpsc::Sender<Work>,
}

impl Libsql {
    /// Starts a server of the database in this file, within a tokio runtime. Each answer takes `round_trip`.
    pub fn start(file: &Path, round_trip: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (work, queue) = mpsc::channel::<Work>();
        let file = file.to_owned();
        std::thread::spawn(move || {
            let mut server = HranaServer::open(&file).unwrap().with_token(TOKEN);
            // The loop ends when the last sender is dropped.
            for work in queue {
                work(&mut server);
            }
        });
        let requests = Arc::new(work.clone());
        let server = Server::on(listener, move |request| {
            let work = Arc::clone(&requests);
            async move {
                sleep(round_trip).await;
                answer(&work, request).await
            }
        });
        Self { server, work }
    }

    /// The address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Runs a closure with the server, such as one that makes it fail, and returns its result.
    pub async fn with<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut HranaServer) -> T + Send + 'static,
    ) -> T {
        on_its_thread(&self.work, change).await
    }
}

async fn on_its_thread<T: Send + 'static>(
    thread: &mpsc::Sender<Work>,
    work: impl FnOnce(&mut HranaServer) -> T + Send + 'static,
) -> T {
    let (sender, done) = oneshot::channel();
    let work: Work = Box::new(move |server| drop(sender.send(work(server))));
    thread.send(work).unwrap();
    done.await.unwrap()
}

async fn answer(thread: &mpsc::Sender<Work>, request: Request) -> Reply {
    let mut asked = http::Request::new(request.body.to_vec());
    *asked.method_mut() = request.method;
    *asked.uri_mut() = request.target.parse().unwrap();
    *asked.headers_mut() = request.headers;
    match on_its_thread(thread, move |server| server.reply(&asked)).await {
        native::Reply::Answer(answer) => Reply::Answer(answer.map(|body| Full::new(body.into()))),
        native::Reply::Closed => Reply::Drop,
        // A listening socket cannot refuse a connection, so the answer is 429 instead.
        native::Reply::Away => Reply::json(429, &json!({ "message": "too many requests" })),
    }
}
