//! A crowd of tasks at an account of Kling that has fewer places than the setting says, or that is asked too often.

use std::{cell::Cell, rc::Rc};

use platform::native::block_on;
use serde_json::{Value, json};
use tasks::{Engine, Status, Task, TaskRequest, rows};

use crate::fake::{PIXEL, Service};

/// The places of the account.
const ACCOUNT: u32 = 3;

struct Crowd {
    kling: Service,
    running: Rc<Cell<u32>>,
    tasks: Vec<Task>,
}

impl Crowd {
    /// A crowd at an account that has three places.
    fn new() -> Self {
        Self::refused(|_, running| {
            (running == ACCOUNT).then_some((1303, "parallel task over resource pack limit"))
        })
    }

    /// A crowd of twenty tasks with a picture each, of two projects in turn. `refuse` decides whether Kling refuses a
    /// call, by the number of calls before it and the number of jobs under way.
    fn refused(refuse: impl Fn(usize, u32) -> Option<(i64, &'static str)> + 'static) -> Self {
        let running = Rc::new(Cell::new(0));
        let (at_kling, calls) = (Rc::clone(&running), Cell::new(0));
        let settings = [
            ("kling_api_key", "secret"),
            ("kling_base_url", "https://kling.example"),
            ("kling_places", "10"),
            ("public_url", "http://here"),
        ];
        let kling = Service::answering("kling", &settings, move |asked| {
            let name = asked.body["external_task_id"].as_str();
            let data = |id: &str| json!({ "task_id": id, "task_status": "submitted" });
            let Some(name) = name else {
                return (200, json!({ "code": 0, "data": data("of a poll") }));
            };
            if let Some((code, message)) = refuse(calls.replace(calls.get() + 1), at_kling.get()) {
                return (429, json!({ "code": code, "message": message }));
            }
            assert_eq!(asked.body["image"], PIXEL);
            at_kling.set(at_kling.get() + 1);
            (200, json!({ "code": 0, "data": data(name) }))
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

    /// Runs a round of the poller after some seconds.
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

    /// Ends a job, and calls back as Kling does.
    fn end(&self, n: usize) {
        self.running.set(self.running.get() - 1);
        let id = &self.tasks[n].task_id;
        let result = json!({ "videos": [{ "id": "v", "url": "https://cdn.example/v.mp4" }] });
        let body = json!({ "task_id": id, "task_status": "succeed", "task_result": result });
        let body = body.to_string();
        block_on(self.engine().call_back("kling", id, body.as_bytes())).unwrap();
    }
}

/// A user reports: "Seventeen films waited, and each sent its picture again every minute."
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
    // The account gets three more places, so the three jobs that go on count no longer.
    crowd.running.set(0);
    crowd.tick_after(10);
    assert_eq!(crowd.running.get(), 3);
    assert_eq!(crowd.sent()[4..], crowd.ids([3, 4, 5, 6]));
}

/// A user reports: "Kling said 1302 now and then, and every film waited for the pause of another."
#[test]
fn a_task_that_comes_too_fast_waits_alone() {
    let crowd = Crowd::refused(|call, _| (call % 4 == 1).then_some((1302, "too fast")));
    // A round claims as many as there are places: three of ten are refused, and their places go to the next.
    crowd.tick_after(0);
    assert_eq!((crowd.sent().len(), crowd.running.get()), (10, 7));
    crowd.tick_after(1);
    assert_eq!((crowd.sent().len(), crowd.running.get()), (13, 10));
    let mut once = crowd.sent();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), 13, "none is sent twice within a second");
    let waiting: Vec<usize> = (0..20)
        .filter(|n| crowd.task(*n).status == Status::Pending)
        .collect();
    assert_eq!(waiting.len(), 10);
    let refused = crowd.task(waiting[0]);
    assert_eq!(refused.retry_count, 0);
    let message = "waiting for a place at Kling";
    assert_eq!(refused.message.as_deref(), Some(message));
    // After 5 to 10 s it is the first of its project again.
    let ended = (0..20).find(|n| crowd.task(*n).status == Status::Processing);
    crowd.tick_after(9);
    assert_eq!(crowd.sent().len(), 13, "all places are taken");
    crowd.end(ended.unwrap());
    crowd.tick_after(0);
    let next = crowd.sent()[13].clone();
    assert!(once.contains(&next), "{next} was not refused before");
}

/// A user reports: "Kling said 1302 all day, and twenty films asked it every few seconds."
#[test]
fn a_service_that_is_always_asked_too_often_is_asked_less_and_less() {
    let crowd = Crowd::refused(|call, _| (call < 20).then_some((1302, "too fast")));
    let mut tries = Vec::new();
    for second in 0..3600 {
        let before = crowd.sent().len();
        if crowd.running.get() > 0 {
            break;
        }
        crowd.tick_after(1);
        tries.extend((before..crowd.sent().len()).map(|_| second));
    }
    // Three are sent at once, because the first two refusals might concern those tasks alone.
    assert_eq!(tries[..3], [0; 3], "{tries:?}");
    let mut last = 0;
    for (n, at) in tries[3..20].iter().enumerate() {
        let longest = (10 << n.min(5)).min(300);
        let pause = at - last;
        assert!((longest / 2..=longest).contains(&pause), "{n} {tries:?}");
        last = *at;
    }
    // One is taken, so the service is no longer doubted, and all places are filled at once.
    assert_eq!(crowd.running.get(), 10);
}
