//! The app's own numbers, a part of `GET /metrics`. The app is asked at most once a minute, however often the relay is.

use crate::app::client::App;
use crate::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// The age that the numbers may have.
const FRESH: Duration = Duration::from_secs(60);

/// The time that the app may take to report them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The numbers of the app.
pub(crate) struct AppMetrics {
    app: Arc<App>,
    metrics: Arc<Metrics>,
    /// The newest numbers. The lock is held while the app is asked, so there is one question at a time.
    known: Arc<Mutex<Option<Known>>>,
}

struct Known {
    answered_at: Instant,
    text: Arc<str>,
}

impl AppMetrics {
    /// The numbers of this app. Whether the app reports them is one of the relay's `metrics`.
    pub(crate) fn new(app: Arc<App>, metrics: Arc<Metrics>) -> Self {
        Self {
            app,
            metrics,
            known: Arc::default(),
        }
    }

    /// The numbers in the text format of Prometheus. If the app does not report them, there are none, and
    /// the app is asked again after a minute.
    pub(crate) async fn text(&self) -> Arc<str> {
        let mut known = self.known.clone().lock_owned().await;
        if let Some(known) = known
            .as_ref()
            .filter(|known| known.answered_at.elapsed() < FRESH)
        {
            return known.text.clone();
        }
        // A task of its own, so that the question goes on if the client that caused it hangs up.
        let (app, metrics) = (self.app.clone(), self.metrics.clone());
        let asking = tokio::spawn(async move {
            let answer = timeout(PATIENCE, app.metrics()).await;
            let text = match answer {
                Ok(Ok(text)) => Some(text),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the app did not report its numbers");
                    None
                }
                Err(_) => {
                    tracing::warn!("the app did not report its numbers within {PATIENCE:?}");
                    None
                }
            };
            metrics.app_metrics_told.set(u64::from(text.is_some()));
            let text: Arc<str> = text.unwrap_or_default().into();
            *known = Some(Known {
                answered_at: Instant::now(),
                text: text.clone(),
            });
            text
        });
        asking.await.unwrap_or_default()
    }
}
