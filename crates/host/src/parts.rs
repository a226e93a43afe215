//! The long-lived parts of the host, each in a task that is watched.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

/// The tasks that run until they are asked to stop. A task that ends before that is a failure of the host. Dropping
/// this ends them.
pub(crate) struct Parts {
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
    names: HashMap<Id, String>,
}

impl Parts {
    /// Creates an empty set of parts.
    pub(crate) fn new() -> Self {
        Self {
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Returns a receiver that turns true when the parts must stop.
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Starts a part.
    pub(crate) fn spawn(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let task = self.tasks.spawn(part);
        self.names.insert(task.id(), name.into());
    }

    /// Watches a part that reports no error, such as a thread. `end` resolves when it ends.
    pub(crate) fn watch(
        &mut self,
        name: impl Into<String>,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async {
            end.await;
            Ok(())
        });
    }

    /// Resolves, with the reason, once a part has ended that should still run.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next_with_id().await {
            Some(ended) => match self.result(ended) {
                (name, Ok(())) => anyhow!("{name} ended"),
                (_, Err(error)) => error,
            },
            None => std::future::pending().await,
        }
    }

    /// Asks all parts to stop, and waits for their end.
    ///
    /// # Errors
    /// With the first failure of a part; the others are waited for all the same.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            result = result.and(self.result(ended).1);
        }
        result
    }

    /// Ends all parts at once.
    pub(crate) async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }

    /// The name of a part that has ended, and how it ended.
    fn result(&mut self, ended: Result<(Id, Result<()>), JoinError>) -> (String, Result<()>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(error.into())),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        let result = result.with_context(|| format!("{name} failed"));
        (name, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until_stopped(mut stop: watch::Receiver<bool>) -> Result<()> {
        stop.wait_for(|stop| *stop).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_part_that_ends_or_fails_or_panics_is_named() {
        let ends = async { Ok(()) };
        let fails = async { Err(anyhow!("the disk is full")) };
        let panics = async { panic!("out of luck") };
        type Part = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;
        let table: [(Part, &[&str]); 3] = [
            (Box::pin(ends), &["the clock ended"]),
            (Box::pin(fails), &["the clock failed", "the disk is full"]),
            (
                Box::pin(panics),
                &["the clock failed", "panicked", "out of luck"],
            ),
        ];
        for (part, words) in table {
            let mut parts = Parts::new();
            parts.spawn("the door", until_stopped(parts.stopped()));
            parts.spawn("the clock", part);
            let error = format!("{:#}", parts.failed().await);
            for word in words {
                assert!(error.contains(word), "{error}");
            }
            parts.stop().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stop_waits_for_all_and_reports_a_failure() {
        let mut parts = Parts::new();
        let stopped = parts.stopped();
        parts.spawn("the clock", async {
            until_stopped(stopped).await?;
            Err(anyhow!("the disk is full"))
        });
        parts.spawn("the door", until_stopped(parts.stopped()));
        let error = format!("{:#}", parts.stop().await.unwrap_err());
        assert_eq!(error, "the clock failed: the disk is full");
        assert!(parts.tasks.is_empty());
    }
}
