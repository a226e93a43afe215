//! Tests of the relay through its public door: real WebSockets on one side, and on the other a real HTTP server that
//! stands in for the app.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod caps;
mod client;
mod events;
mod fake_app;
mod faults;
mod http;
mod lifecycle;
mod lines;
mod rooms;
mod saved;
mod thrift;
mod uploads;
mod waiting;

use client::Client;
use fake_app::FakeApp;
use relay::Settings;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The ways in which the relay's requests reach the app.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Lines,
    SingleRequests,
}

impl Way {
    fn set(self, settings: &mut Settings) {
        if self == Self::SingleRequests {
            settings.line_requests = 0;
        }
    }
}

/// Makes two tests of each scenario: by lines, and by single requests.
macro_rules! both_ways {
    ($($(#[$attribute:meta])* async fn $name:ident($way:ident: Way) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            async fn scenario($way: crate::Way) $body

            #[tokio::test]
            async fn by_lines() {
                scenario(crate::Way::Lines).await;
            }

            #[tokio::test]
            async fn by_single_requests() {
                scenario(crate::Way::SingleRequests).await;
            }
        }
    )+};
}
pub(crate) use both_ways;

/// The time that one step of a test may take, which is far more than any needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for at most [`PATIENCE`].
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits for at most [`PATIENCE`] until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A relay under test, and its app.
struct Relay {
    address: SocketAddr,
    app: FakeApp,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), relay::Error>>,
}

impl Relay {
    /// Makes settings with which heads are compared and rooms swept only if a test says so. A client from which a test
    /// does not read any more does not hold up the end of the relay.
    fn settings() -> Settings {
        Settings {
            heads_interval: Some(Duration::from_secs(3600)),
            sweep_interval: Duration::from_secs(3600),
            compact_delay: Duration::from_millis(1),
            close_timeout: Duration::from_millis(200),
            ..Settings::default()
        }
    }

    async fn start(adjust: impl FnOnce(&mut Settings)) -> Self {
        let app = FakeApp::start().await;
        let mut settings = Self::settings();
        settings.app = format!("http://{}", app.address);
        adjust(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(relay::serve(listener, settings, async {
            // A test that ends early drops the sender; that stops the relay as well.
            let _ = stopped.await;
        }));
        Self {
            address,
            app,
            stop: Some(stop),
            served,
        }
    }

    async fn connect(&self, project: &str) -> Client {
        Client::connect(self.address, &format!("/sync/{project}")).await
    }

    /// Connects a client, and waits for its state.
    async fn join(&self, project: &str) -> Client {
        let mut client = self.connect(project).await;
        client.binary().await;
        client
    }

    /// Reads one number of `/metrics`.
    async fn metric(&self, name: &str) -> u64 {
        let answer = http::request(
            self.address,
            "GET /metrics HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n",
        )
        .await;
        answer
            .lines()
            .find_map(|line| line.strip_prefix(&format!("relay_{name} ")))
            .unwrap_or_else(|| panic!("no {name} in {answer}"))
            .parse()
            .unwrap()
    }

    fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Drains the relay, and waits until it has ended.
    async fn stop(mut self) {
        self.begin_stop();
        within("the relay stops", self.served)
            .await
            .unwrap()
            .unwrap();
    }
}
