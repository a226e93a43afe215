//! The operator's routes of the relay itself: `/internal/drain`, `/internal/recheck` and `/metrics`.

use crate::edge::app_metrics::AppMetrics;
use crate::edge::body::{Body, full};
use crate::edge::problem::response;
use crate::metrics::Metrics;
use crate::room::recheck::RecheckSignal;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use problem::Problem;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

/// The routes of an operator.
pub(crate) struct Internal {
    token: String,
    metrics: Arc<Metrics>,
    app: AppMetrics,
    recheck: Arc<RecheckSignal>,
    /// Asks the relay to drain.
    stop: CancellationToken,
}

impl Internal {
    /// Makes the routes that the internal token opens. If the token is empty, only `/metrics` is open, and to all.
    pub(crate) fn new(
        token: &str,
        metrics: Arc<Metrics>,
        app: AppMetrics,
        recheck: Arc<RecheckSignal>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            token: token.to_owned(),
            metrics,
            app,
            recheck,
            stop,
        }
    }

    /// Answers a request below `/internal`.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        match request.uri().path() {
            "/internal/drain" => self.on_request(request, || self.stop.cancel()),
            "/internal/recheck" => self.on_request(request, || self.recheck.send_for_all()),
            _ => response(&Problem::not_found()),
        }
    }

    /// Carries out the request of an operator.
    fn on_request<B>(&self, request: &Request<B>, act: impl FnOnce()) -> Response<Body> {
        if !is_operator(request.headers(), &self.token) {
            return response(&Problem::unauthorized());
        }
        if request.method() != Method::POST {
            return response(&Problem::method_not_allowed(&["POST"]));
        }
        act();
        let mut accepted = Response::new(full(""));
        *accepted.status_mut() = StatusCode::ACCEPTED;
        accepted
    }

    /// Answers a request for `/metrics`.
    pub(crate) async fn metrics<B>(&self, request: &Request<B>) -> Response<Body> {
        if !self.token.is_empty() && !is_operator(request.headers(), &self.token) {
            return response(&Problem::unauthorized());
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return response(&Problem::method_not_allowed(&["GET", "HEAD"]));
        }
        // The app is asked first, because one of the relay's numbers is whether it answers.
        let app = self.app.text().await;
        let text = self.metrics.render() + &app;
        let mut answer = Response::new(full(text));
        answer.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4"),
        );
        answer
    }
}

/// Returns whether a request has the internal token. If none is set, no request has it, not even one from this machine,
/// because the app calls addresses that users give, from this machine too.
fn is_operator(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .filter(|_| !token.is_empty())
        .is_some_and(|sent| sent.ct_eq(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, http::HeaderValue::from_static(value))])
        };
        for (headers, token, expected) in [
            (HeaderMap::new(), "", false),
            (with("Bearer "), "", false),
            (HeaderMap::new(), "t", false),
            (with("Bearer t"), "t", true),
            (with("Bearer tt"), "t", false),
            (with("Basic t"), "t", false),
        ] {
            assert_eq!(
                is_operator(&headers, token),
                expected,
                "{headers:?} {token}"
            );
        }
    }
}
