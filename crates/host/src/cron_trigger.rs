//! The cron trigger: calls `handle-cron-event` of a component when its schedule says.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use cron::Schedule;
use tokio::sync::watch;

use crate::bindings::{CronMetadata, SpinCronPre};
use crate::guest::{Guest, Program};

/// Parses a cron expression: six fields with seconds first, or the five of old.
pub fn schedule(expression: &str) -> Result<Schedule, String> {
    let fields = expression.split_whitespace().count();
    let full = match fields {
        5 => format!("0 {expression}"),
        6 | 7 => expression.to_owned(),
        _ => {
            return Err(format!(
                "{expression:?} must have 6 fields: second minute hour day month weekday"
            ));
        }
    };
    Schedule::from_str(&full)
        .map_err(|e| format!("{expression:?}: {}", e.to_string().replace('\n', " ")))
}

/// Runs `program` by its schedule until `stop` turns true. A time that comes while an instance is
/// still at work is passed over.
pub async fn run(
    program: Arc<Program>,
    handler: SpinCronPre<Guest>,
    schedule: Schedule,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let Some(next) = schedule.upcoming(Utc).next() else {
            return;
        };
        let wait = (next - Utc::now()).to_std().unwrap_or(Duration::ZERO);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let timestamp = u64::try_from(next.timestamp()).unwrap_or(0);
        call(&program, &handler, timestamp).await;
    }
}

async fn call(program: &Arc<Program>, handler: &SpinCronPre<Guest>, timestamp: u64) {
    let mut store = match program.store().await {
        Ok(store) => store,
        Err(busy) => {
            tracing::warn!(
                component = program.id,
                "a cron event is passed over: {busy}"
            );
            return;
        }
    };
    let meter = Arc::clone(&store.data().meter);
    let result = program
        .run(meter, async {
            let instance = handler.instantiate_async(&mut store).await?;
            instance
                .call_handle_cron_event(&mut store, CronMetadata { timestamp })
                .await
        })
        .await;
    if let Ok(Err(error)) = result {
        tracing::warn!(
            component = program.id,
            "the cron handler answered an error: {error:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_seconds_or_five_fields() {
        for good in [
            "0/10 * * * * *",
            "* * * * * *",
            "0 0 12 * * Mon-Fri",
            "*/5 * * * *",
            "0 0 0 1 1 * 2030",
        ] {
            assert!(schedule(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "* * *",
            "61 * * * * *",
            "a b c d e f",
            "* * * * * * * *",
        ] {
            assert!(schedule(bad).is_err(), "{bad}");
        }
        let schedule = schedule("0/10 * * * * *").unwrap();
        let mut times = schedule.upcoming(Utc).map(|time| time.timestamp()).take(3);
        let first = times.next().unwrap();
        assert_eq!(first % 10, 0);
        assert_eq!(times.next(), Some(first + 10));
    }
}
