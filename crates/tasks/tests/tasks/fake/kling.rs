//! A fake Kling, for the tests of its executor.

use serde_json::{Value, json};
use tasks::{Failure, Progress, Task};

use super::Service;

pub(crate) const KEY: (&str, &str) = ("kling_api_key", "secret");
pub(crate) const BASE: (&str, &str) = ("kling_base_url", "https://kling.example/");
pub(crate) const NOW: i64 = 1_700_000_000;

/// The answer about a job.
pub(crate) fn job(id: &str, status: &str) -> (u16, Value) {
    let data = json!({ "task_id": id, "task_status": status });
    (200, json!({ "code": 0, "data": data }))
}

pub(crate) fn kling(
    settings: &[(&str, &str)],
    answers: impl IntoIterator<Item = (u16, Value)>,
) -> Service {
    let kling = Service::new("kling", settings, answers);
    kling.world.clock.0.set(NOW);
    kling
}

pub(crate) fn submit(kling: &Service, task: &Task, params: Value) -> Result<Progress, Failure> {
    kling.with(async |executor, context| executor.submit(task, &params, context).await)
}

pub(crate) fn task() -> Task {
    Task {
        task_id: "task_1_a".into(),
        project_id: "p".into(),
        ..Task::new(NOW)
    }
}

/// The name of a job that goes on, and whether it is asked about at once.
pub(crate) fn goes_on(answer: Result<Progress, Failure>) -> (String, bool) {
    match answer.unwrap() {
        Progress::Running {
            external_task_id,
            look_again,
        } => (external_task_id, look_again.is_some()),
        Progress::Done(product) => panic!("{product:?}"),
    }
}
