//! The answer to `GET /ready`: whether a load balancer should send clients to this relay.

use crate::edge::body::{Body, full};
use crate::edge::health::Health;
use crate::edge::problem::response;
use crate::metrics::Metrics;
use crate::settings::Settings;
use http::{HeaderValue, Method, Request, Response, header};
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The time that an answer waits for the app's. It is shorter than a second, after which many load balancers give up.
const WAIT: Duration = Duration::from_millis(500);

/// Decides whether this relay is ready.
pub(crate) struct Ready {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
    /// The time that the app may be away. Meanwhile the relay holds updates.
    patience: Duration,
    /// The number of bytes of updates that may wait.
    queue: u64,
}

/// Returns whether a request asks if the relay is ready.
pub(crate) fn is_asked_for<B>(request: &Request<B>) -> bool {
    request.uri().path() == "/ready" && [Method::GET, Method::HEAD].contains(request.method())
}

impl Ready {
    /// A relay that is ready while the app behind it was healthy within its patience, while its queue of updates is not
    /// full, and until it drains.
    pub(crate) fn new(
        health: Arc<Health>,
        metrics: &Arc<Metrics>,
        draining: &CancellationToken,
        settings: &Settings,
    ) -> Self {
        Self {
            health,
            metrics: metrics.clone(),
            draining: draining.clone(),
            patience: settings.app_patience,
            queue: settings.max_commit_queue as u64,
        }
    }

    /// Answers 200, or 503 with all reasons.
    pub(crate) async fn answer(&self, method: &Method) -> Response<Body> {
        let healthy = self.health.last_good(WAIT).await;
        let reasons = self.reasons(healthy, Instant::now());
        if !reasons.is_empty() {
            let words = format!("This relay is not ready: {}.", reasons.join("; "));
            return response(&Problem::unavailable(words));
        }
        let body = match *method {
            Method::HEAD => "",
            _ => "{\"status\":\"ready\"}",
        };
        let mut answer = Response::new(full(body));
        answer.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        answer
    }

    /// The reasons why the relay is not ready at the time `now`; none if it is ready. `healthy` is the time at which the
    /// app last said that it is healthy.
    fn reasons(&self, healthy: Option<Instant>, now: Instant) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.is_cancelled() {
            reasons.push("it drains".to_owned());
        }
        match healthy {
            None => {
                reasons.push("the app has not been healthy since this relay started".to_owned())
            }
            Some(last) if now.duration_since(last) > self.patience => {
                let seconds = now.duration_since(last).as_secs();
                reasons.push(format!("the app has not been healthy for {seconds} s"));
            }
            Some(_) => {}
        }
        if self.metrics.pending_bytes.get() >= self.queue {
            reasons.push("too many updates wait to be stored".to_owned());
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::upstream::Upstream;
    use http::StatusCode;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A relay before the app at this address.
    fn before(app: &str) -> Ready {
        let upstream = Upstream::new(&format!("http://{app}")).unwrap();
        let health = Arc::new(Health::new(Arc::new(upstream)));
        let settings = Settings {
            app_patience: Duration::from_secs(30),
            max_commit_queue: 1000,
            ..Settings::default()
        };
        Ready::new(
            health,
            &Arc::default(),
            &CancellationToken::new(),
            &settings,
        )
    }

    #[tokio::test]
    async fn each_reason_is_named_and_goes() {
        // No app listens there.
        let ready = before("127.0.0.1:1");
        let answer = ready.answer(&Method::GET).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let now = Instant::now();
        assert!(ready.reasons(None, now)[0].contains("since this relay started"));

        // At the bound, and beyond it.
        let at = |seconds| ready.reasons(Some(now), now + Duration::from_secs(seconds));
        assert!(at(30).is_empty());
        assert_eq!(at(31), ["the app has not been healthy for 31 s"]);

        ready.metrics.pending_bytes.add(999);
        assert!(at(0).is_empty());
        ready.metrics.pending_bytes.add(1);
        assert_eq!(at(0), ["too many updates wait to be stored"]);
        ready.draining.cancel();
        assert_eq!(at(0)[0], "it drains");
        assert_eq!(at(0).len(), 2);
    }

    /// An app that is healthy until `hangs` is set. It then takes questions, and answers none.
    async fn app(listener: TcpListener, hangs: Arc<AtomicBool>) {
        let mut open = Vec::new();
        for _ in 0..1000 {
            let (mut stream, _) = listener.accept().await.unwrap();
            if hangs.load(Ordering::SeqCst) {
                open.push(stream);
                continue;
            }
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let healthy = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(healthy).await.unwrap();
        }
    }

    /// Checks that a relay whose app hangs stays ready for as long as it is patient, and says so before the app's time
    /// is up.
    #[tokio::test]
    async fn an_app_that_hangs_delays_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ready = before(&listener.local_addr().unwrap().to_string());
        let hangs = Arc::new(AtomicBool::new(false));
        let app = tokio::spawn(app(listener, hangs.clone()));
        let mut is_ready = false;
        for _ in 0..100 {
            is_ready |= ready.answer(&Method::GET).await.status() == StatusCode::OK;
            if is_ready {
                break;
            }
        }
        assert!(is_ready);

        hangs.store(true, Ordering::SeqCst);
        let mut came_first = false;
        for _ in 0..100 {
            let answer = ready.answer(&Method::GET).await;
            assert_eq!(answer.status(), StatusCode::OK, "a short outage is held");
            came_first = ready.health.is_asking();
            if came_first {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(came_first, "each answer waited for the app's");
        app.abort();
    }
}
