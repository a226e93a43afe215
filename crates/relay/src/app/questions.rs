//! The questions whether clients may come in, of which few are asked at once. A crowd that joins would otherwise start an
//! instance of the app for each of its clients, and every edit would wait for a processor behind them.

use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The questions that may keep a processor busy at once.
const AT_ONCE: usize = 16;

/// A question that takes longer waits for another service, not for a processor. It gives its place to the next, so that
/// a slow answer keeps no other client out.
const BRIEF: Duration = Duration::from_millis(100);

/// The places of the questions that are being asked. Questions that wait get a place in their order.
pub(crate) struct Questions(Semaphore);

impl Default for Questions {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Questions {
    /// Asks when there is a place, and returns the answer.
    pub(crate) async fn ask<T>(&self, question: impl Future<Output = T>) -> T {
        // The semaphore is never closed.
        let place = self.0.acquire().await;
        tokio::pin!(question);
        if let Ok(answer) = timeout(BRIEF, &mut question).await {
            return answer;
        }
        drop(place);
        question.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::cell::Cell;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn few_of_a_crowd_ask_at_once() {
        let questions = Questions::default();
        let (now, most) = (Cell::new(0), Cell::new(0));
        let all = (0..1000).map(|_| {
            questions.ask(async {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                yield_now().await;
                now.set(now.get() - 1);
            })
        });
        join_all(all).await;
        assert_eq!(most.get(), AT_ONCE);
    }

    #[tokio::test]
    async fn a_slow_answer_keeps_no_other_out() {
        let questions = Questions::default();
        let (begun, all_have_begun) = (Cell::new(0), Notify::new());
        let all = (0..3 * AT_ONCE).map(|_| {
            questions.ask(async {
                begun.set(begun.get() + 1);
                if begun.get() == 3 * AT_ONCE {
                    all_have_begun.notify_waiters();
                } else {
                    all_have_begun.notified().await;
                }
            })
        });
        // No answer comes before the last question is asked.
        let asked = timeout(Duration::from_secs(10), join_all(all)).await;
        assert!(asked.is_ok(), "{} were asked", begun.get());
    }
}
