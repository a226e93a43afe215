//! The sleep of a component.

use std::{future::poll_fn, task::Poll, time::Duration};

use spin_executor::{CancelOnDropToken, push_waker_and_get_token};
use wasi::clocks::monotonic_clock;

/// Resolves when this much time has passed. Other futures of the instance go on meanwhile.
pub(crate) async fn sleep(duration: Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let deadline = monotonic_clock::now().saturating_add(nanoseconds);
    // The subscription lives as long as this future.
    let mut _subscription = None;
    poll_fn(|context| {
        if monotonic_clock::now() >= deadline {
            return Poll::Ready(());
        }
        _subscription = Some(CancelOnDropToken::from(push_waker_and_get_token(
            monotonic_clock::subscribe_instant(deadline),
            context.waker().clone(),
        )));
        Poll::Pending
    })
    .await;
}
