//! A crowd of tasks at an account of Kling that has fewer places than the setting says.

#![allow(clippy::unwrap_used)]

mod fake;

use std::{cell::Cell, rc::Rc};

use fake::{PIXEL, Service};
use platform::native::block_on;
use serde_json::{Value, json};
use tasks::{Engine, Status, Task, TaskRequest, rows};

/// The places of the account.
const ACCOUNT: u32 = 3;

struct Crowd {
    kling: Service,
    running: Rc<Cell<u32>>,
    tasks: Vec<Task>,
}

impl Crowd {
    /// Twenty tasks with a picture each, of two projects in turn.
    fn new() -> Self {
        let running = Rc::new(Cell::new(0));
        let at_kling = Rc::clone(&running);
        let settings = [
            ("kling_api_key", "secret"),
            ("kling_base_url", "https://kling.example"),
            ("kling_places", "10"),
            ("public_url", "http://here"),
        ];
        let kling = Service::answering("kling", &settings, move |asked| {
            let name = asked.body["external_task_id"].as_str();
            let data = |id: &str| json!({ "task_id": id, "task_status": "submitted" });
            match name {
                None => (200, json!({ "code": 0, "data": data("of a poll") })),
                Some(_) if at_kling.get() == ACCOUNT => (
                    429,
                    json!({ "code": 1303, "message": "parallel task over resource pack limit" }),
                ),
                Some(name) => {
                    assert_eq!(asked.body["image"], PIXEL);
                    at_kling.set(at_kling.get() + 1);
                    (200, json!({ "code": 0, "data": data(name) }))
                }
            }
        });
        kling.world.clock.0.set(1_700_000_000);
        let mut crowd = Self {
            kling,
            running,
            tasks: Vec::new(),
        };
        for n in 0..20 {
            let task = crowd.post(["a", "b"][n % 2]);
            crowd.tasks.push(task);
        }
        crowd
    }

    fn engine(&self) -> Engine<'_> {
        block_on(Engine::open(self.kling.ports())).unwrap()
    }

    fn post(&self, project: &str) -> Task {
        let params = json!({ "prompt": "a hill", "image_path": PIXEL });
        let body = json!({ "project_id": project, "task_type": "kling_video", "params": params });
        let body = body.to_string();
        let request = TaskRequest::read(body.as_bytes()).unwrap();
        let engine = self.engine();
        block_on(tasks::create(
            engine.ports,
            &engine.registry,
            &request,
            None,
        ))
        .unwrap()
    }

    /// A round of the poller after some seconds.
    fn tick_after(&self, seconds: i64) {
        let clock = &self.kling.world.clock.0;
        clock.set(clock.get() + seconds);
        block_on(self.engine().tick());
    }

    /// The tasks that were sent to Kling, each time with its picture.
    fn sent(&self) -> Vec<String> {
        let name = |body: &Value| body["external_task_id"].as_str().map(str::to_owned);
        let asked = self.kling.asked();
        asked.iter().filter_map(|one| name(&one.body)).collect()
    }

    fn ids(&self, which: impl IntoIterator<Item = usize>) -> Vec<String> {
        which
            .into_iter()
            .map(|n| self.tasks[n].task_id.clone())
            .collect()
    }

    fn task(&self, n: usize) -> Task {
        let database = self.kling.ports().database;
        block_on(rows::get(database, &self.tasks[n].task_id))
            .unwrap()
            .unwrap()
    }

    /// Kling calls back about a job.
    fn end(&self, n: usize) {
        self.running.set(self.running.get() - 1);
        let id = &self.tasks[n].task_id;
        let result = json!({ "videos": [{ "id": "v", "url": "https://cdn.example/v.mp4" }] });
        let body = json!({ "task_id": id, "task_status": "succeed", "task_result": result });
        let body = body.to_string();
        block_on(self.engine().call_back("kling", id, body.as_bytes())).unwrap();
    }
}

/// "Seventeen films waited, and each sent its picture again every minute."
#[test]
fn a_crowd_tries_once_for_each_pause_and_not_once_for_each_task() {
    let crowd = Crowd::new();
    crowd.tick_after(0);
    // The fourth is refused, and no other is sent after it.
    assert_eq!(crowd.sent(), crowd.ids([0, 1, 2, 3]));
    // The oldest tries again after 5 to 10 s, 10 to 20, 20 to 40, and so on up to 5 minutes.
    let mut tries = Vec::new();
    for second in 1..=1800 {
        let before = crowd.sent().len();
        crowd.tick_after(1);
        match crowd.sent().len() - before {
            0 => {}
            1 => tries.push(second),
            more => panic!("{more} at once"),
        }
    }
    let mut last = 0;
    for (n, at) in tries.iter().enumerate() {
        let longest = (10 << n.min(5)).min(300);
        let pause = at - last;
        assert!((longest / 2..=longest).contains(&pause), "{tries:?}");
        last = *at;
    }
    assert!((9..=18).contains(&tries.len()), "{tries:?}");
    for n in 3..20 {
        let task = crowd.task(n);
        assert_eq!((task.status, task.retry_count), (Status::Pending, 0));
        let message = "waiting for a place at Kling";
        assert_eq!(task.message.as_deref(), Some(message), "{n}");
    }
    // The pause is long now, but a place that becomes free is filled at once, by the oldest of a project.
    for n in 0..3 {
        let before = crowd.sent();
        crowd.end(n);
        crowd.tick_after(0);
        let sent = crowd.sent()[before.len()..].to_vec();
        assert_eq!(sent, crowd.ids([n + 3]));
        assert_eq!(crowd.task(n + 3).status, Status::Processing);
    }
    assert_eq!(crowd.running.get(), ACCOUNT);
}

#[test]
fn places_that_are_bought_are_found_at_the_next_try_and_used_at_once() {
    let crowd = Crowd::new();
    crowd.tick_after(0);
    // Three of the jobs go on, and count no longer.
    crowd.running.set(0);
    crowd.tick_after(10);
    assert_eq!(crowd.running.get(), 3);
    assert_eq!(crowd.sent()[4..], crowd.ids([3, 4, 5, 6]));
}
