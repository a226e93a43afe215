//! The part that the whole app shares: a timer for each schedule.

use std::time::Duration;

use anyhow::Result;
use chrono::Utc;
use cron::Schedule;
use tokio::sync::watch;

/// Makes a call by its schedule until `stop` turns true. A time that comes while a call is still at work is skipped.
///
/// # Errors
/// If a call panics.
pub(crate) async fn run<C>(
    call: impl Fn(u64) -> C,
    schedule: Schedule,
    mut stop: watch::Receiver<bool>,
) -> Result<()>
where
    C: Future<Output = ()> + Send + 'static,
{
    loop {
        let next = schedule.upcoming(Utc).next();
        let sleep = async {
            match next {
                Some(next) => {
                    let wait = (next - Utc::now()).to_std().unwrap_or(Duration::ZERO);
                    tokio::time::sleep(wait).await;
                    u64::try_from(next.timestamp()).unwrap_or(0)
                }
                // A schedule with a year may have no more times.
                None => std::future::pending().await,
            }
        };
        let timestamp = tokio::select! {
            timestamp = sleep => timestamp,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        // The call has a task of its own, so that the end of the trigger does not cut it short. At a stop, the host gives
        // it the time that all instances get.
        tokio::select! {
            ended = tokio::spawn(call(timestamp)) => ended?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_stop_waits_for_no_call_and_cuts_none_short() {
        let (begun, mut begins) = mpsc::channel(1);
        let (ended, mut ends) = mpsc::channel(1);
        let may_end = watch::Sender::new(false);
        let waits = may_end.subscribe();
        let call = move |timestamp| {
            let (begun, ended, mut waits) = (begun.clone(), ended.clone(), waits.clone());
            async move {
                begun.send(timestamp).await.ok();
                waits.wait_for(|may_end| *may_end).await.ok();
                ended.send(timestamp).await.ok();
            }
        };
        let stop = watch::Sender::new(false);
        let schedule = Schedule::from_str("* * * * * *").unwrap();
        let trigger = tokio::spawn(run(call, schedule, stop.subscribe()));
        let begun = begins.recv().await.unwrap();
        stop.send_replace(true);
        let stopped = tokio::time::timeout(Duration::from_secs(10), trigger).await;
        stopped
            .expect("the trigger waits for the call")
            .unwrap()
            .unwrap();
        may_end.send_replace(true);
        assert_eq!(ends.recv().await, Some(begun));
    }
}
