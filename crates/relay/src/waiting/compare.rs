//! The comparison of tasks that are waited for with the app's.

use crate::app::client::App;
use crate::app::pubsub::PubSub;
use crate::waiting::waiters::{Subject, Waiters};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The interval at which tasks are compared while no message reports their changes.
const WITHOUT_REDIS: Duration = Duration::from_secs(2);

/// The interval at which they are compared while Redis carries such messages, because it may lose one.
const WITH_REDIS: Duration = Duration::from_secs(10);

/// Compares for as long as the relay runs. While no request waits, the app is asked nothing.
pub(crate) async fn run(app: Arc<App>, pubsub: Arc<PubSub>, waiters: Arc<Waiters>) {
    let mut compared = Instant::now();
    loop {
        sleep(WITHOUT_REDIS).await;
        if pubsub.is_connected() && compared.elapsed() < WITH_REDIS {
            continue;
        }
        compared = Instant::now();
        for some in waiters.subjects().chunks(wire::MAX_MARKS) {
            let (tasks, projects) = split(some);
            match app.marks(tasks.clone(), projects.clone()).await {
                Ok(wire::Marks {
                    marks,
                    projects: told,
                }) => {
                    for (task, mark) in tasks.into_iter().zip(marks) {
                        waiters.compare(&Subject::Task(task), mark.as_deref());
                    }
                    for (project, mark) in projects.into_iter().zip(told.unwrap_or_default()) {
                        waiters.compare(&Subject::Project(project), Some(&mark));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "tasks could not be compared");
                    break;
                }
            }
        }
    }
}

/// Splits subjects into the ids of tasks and those of projects.
fn split(subjects: &[Subject]) -> (Vec<String>, Vec<String>) {
    let (mut tasks, mut projects) = (Vec::new(), Vec::new());
    for subject in subjects {
        match subject {
            Subject::Task(task) => tasks.push(task.clone()),
            Subject::Project(project) => projects.push(project.clone()),
        }
    }
    (tasks, projects)
}
