//! `GET /ready`: whether a load balancer should send clients to this relay.

use crate::edge::body::{Body, full};
use crate::edge::health::Health;
use crate::edge::problem::response;
use crate::metrics::Metrics;
use crate::settings::Settings;
use http::{HeaderValue, Method, Request, Response, header};
use parking_lot::Mutex;
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Whether this relay is ready.
pub(crate) struct Ready {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
    /// How long the app may be away. Meanwhile the relay holds updates.
    patience: Duration,
    /// How many bytes of updates may wait.
    queue: u64,
    /// The time at which the app was last seen healthy.
    healthy: Mutex<Option<Instant>>,
}

/// Whether a request asks if the relay is ready.
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
            healthy: Mutex::new(None),
        }
    }

    /// Answers 200, or 503 with all reasons.
    pub(crate) async fn answer(&self, method: &Method) -> Response<Body> {
        if self.health.is_good().await {
            *self.healthy.lock() = Some(Instant::now());
        }
        let reasons = self.reasons(Instant::now());
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

    /// The reasons why the relay is not ready at this time; none if it is.
    fn reasons(&self, now: Instant) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.is_cancelled() {
            reasons.push("it drains".to_owned());
        }
        match *self.healthy.lock() {
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

    /// A relay before an address at which no app listens.
    fn alone() -> Ready {
        let upstream = Upstream::new("http://127.0.0.1:1").unwrap();
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
    async fn each_reason_is_told_and_goes() {
        let ready = alone();
        let answer = ready.answer(&Method::GET).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let now = Instant::now();
        assert!(ready.reasons(now)[0].contains("since this relay started"));

        *ready.healthy.lock() = Some(now);
        let answer = ready.answer(&Method::GET).await;
        assert_eq!(answer.status(), StatusCode::OK, "a short outage is held");

        // At the bound, and beyond it.
        assert!(ready.reasons(now + Duration::from_secs(30)).is_empty());
        let words = ready.reasons(now + Duration::from_secs(31));
        assert_eq!(words, ["the app has not been healthy for 31 s"]);

        ready.metrics.pending_bytes.add(999);
        assert!(ready.reasons(now).is_empty());
        ready.metrics.pending_bytes.add(1);
        let words = ready.reasons(now);
        assert_eq!(words, ["too many updates wait to be stored"]);
        ready.draining.cancel();
        assert_eq!(ready.reasons(now)[0], "it drains");
        assert_eq!(ready.reasons(now).len(), 2);
    }
}
