//! The question to Kling about all its running jobs: how many calls a round of the poller costs, and what becomes of
//! jobs about which the answer says nothing.

use std::{cell::RefCell, rc::Rc};

use platform::native::block_on;
use serde_json::{Value, json};
use tasks::{Engine, Status, TaskRequest, rows};

use crate::fake::{Asked, Service};

/// The most jobs that one question is about.
const MOST: usize = 100;

/// An answer of Kling to a question about these jobs, by their names there.
type Answer = dyn Fn(&[&str]) -> (u16, Value);

struct World {
    kling: Service,
    answer: Rc<RefCell<Box<Answer>>>,
    tasks: Vec<String>,
}

fn job(name: &str, status: &str) -> Value {
    let outputs = json!([{ "type": "video", "url": format!("https://cdn.example/{name}.mp4") }]);
    json!({ "id": name, "status": status, "message": "", "outputs": outputs })
}

fn all(names: &[&str], status: &str) -> (u16, Value) {
    let jobs: Vec<Value> = names.iter().map(|name| job(name, status)).collect();
    (200, json!({ "code": 0, "data": jobs }))
}

impl World {
    /// A world with this many tasks of the second generation that Kling has accepted, and this many of the first.
    fn new(second: usize, first: usize) -> Self {
        let answer: Rc<RefCell<Box<Answer>>> =
            Rc::new(RefCell::new(Box::new(|names| all(names, "processing"))));
        let at_kling = Rc::clone(&answer);
        let settings = [
            ("kling_api_key", "secret"),
            ("kling_base_url", "https://kling.example"),
            ("kling_places", "2000"),
            ("public_url", "http://here"),
        ];
        let kling = Service::answering("kling", &settings, move |asked| serve(asked, &at_kling));
        kling.world.clock.0.set(1_700_000_000);
        let mut world = Self {
            kling,
            answer,
            tasks: Vec::new(),
        };
        for n in 0..second + first {
            let model = if n < second { "kling-3.0" } else { "kling-v3" };
            let id = world.post(model);
            world.tasks.push(id);
        }
        // A round begins submissions for at most 9 s, but the clock stands still here.
        world.tick_after(0);
        assert_eq!(world.calls("POST").len(), second + first);
        world
    }

    fn engine(&self) -> Engine<'_> {
        block_on(Engine::open(self.kling.ports())).unwrap()
    }

    fn post(&self, model: &str) -> String {
        // The longest prompt, because a question is shared whatever the tasks say.
        let prompt = "x".repeat(16 * 1024);
        let params = json!({ "prompt": prompt, "model": model });
        let body = json!({ "project_id": "p", "task_type": "kling_video", "params": params });
        let body = body.to_string();
        let request = TaskRequest::read(body.as_bytes()).unwrap();
        let engine = self.engine();
        let created = tasks::create(engine.ports, &engine.registry, &request, None);
        block_on(created).unwrap().task_id
    }

    fn tick_after(&self, seconds: i64) {
        let clock = &self.kling.world.clock.0;
        clock.set(clock.get() + seconds);
        block_on(self.engine().tick());
    }

    fn calls(&self, method: &str) -> Vec<String> {
        let calls = self.kling.calls();
        let of_method = calls.into_iter().filter(|call| call.starts_with(method));
        of_method.collect()
    }

    /// The calls that one more round makes.
    fn round(&self) -> Vec<String> {
        let before = self.calls("GET").len();
        self.tick_after(10);
        self.calls("GET").split_off(before)
    }

    fn task(&self, n: usize) -> tasks::Task {
        let database = self.kling.ports().database;
        block_on(rows::get(database, &self.tasks[n]))
            .unwrap()
            .unwrap()
    }
}

fn serve(asked: &Asked, answer: &Rc<RefCell<Box<Answer>>>) -> (u16, Value) {
    let of_first = |name: &str| {
        let data = json!({ "task_id": name, "task_status": "processing" });
        (200, json!({ "code": 0, "data": data }))
    };
    if asked.call.starts_with("POST") {
        let name = asked.body["external_task_id"].as_str();
        return match name {
            Some(name) => of_first(&format!("their-{name}")),
            None => {
                let name = asked.body["options"]["external_task_id"].as_str().unwrap();
                (
                    200,
                    json!({ "code": 0, "data": job(&format!("their-{name}"), "submitted") }),
                )
            }
        };
    }
    match asked.call.split_once("?task_ids=") {
        Some((_, names)) => {
            let names: Vec<&str> = names.split(',').collect();
            assert!((1..=MOST).contains(&names.len()), "{} jobs", names.len());
            assert!(asked.call.len() < 4096 + 64, "{}", asked.call.len());
            (answer.borrow())(&names)
        }
        None => of_first(asked.call.rsplit('/').next().unwrap()),
    }
}

#[test]
fn a_round_of_the_poller_costs_a_call_for_a_hundred_jobs() {
    for (second, first, questions) in [(1, 0, 1), (40, 0, 1), (100, 0, 1), (101, 2, 2), (250, 3, 3)]
    {
        let world = World::new(second, first);
        for _ in 0..2 {
            let calls = world.round();
            let shared = calls.iter().filter(|call| call.contains("?task_ids="));
            let names: usize = shared.clone().map(|call| call.split(',').count()).sum();
            assert_eq!((shared.count(), names), (questions, second));
            assert_eq!(calls.len(), questions + first, "each of the first alone");
        }
        *world.answer.borrow_mut() = Box::new(|names| all(names, "succeeded"));
        world.round();
        for n in 0..second {
            let task = world.task(n);
            let url = format!("https://cdn.example/their-{}.mp4", task.task_id);
            assert_eq!(task.status, Status::Completed);
            assert_eq!(task.result_url, Some(url));
        }
        // Only those of the first generation are left.
        assert_eq!(world.round().len(), first);
    }
}

/// Checks that a job that Kling does not know neither ends the others nor hides them.
#[test]
fn a_job_about_which_the_answer_says_nothing_is_asked_about_alone() {
    let lost = |names: &[&str], lost: &str| -> Vec<String> {
        let others = names.iter().filter(|name| **name != lost);
        others.map(|name| (*name).to_owned()).collect()
    };
    // Kling may leave an unknown job out, or refuse the question because of it.
    for is_refused in [false, true] {
        let world = World::new(5, 0);
        let gone = format!("their-{}", world.tasks[2]);
        *world.answer.borrow_mut() = Box::new(move |names| {
            if is_refused && names.contains(&gone.as_str()) {
                return (404, json!({ "code": 1203, "message": "no such task" }));
            }
            let known = lost(names, &gone);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            all(&known, "succeeded")
        });
        let calls = world.round();
        // A refused question is asked again about 2 and 3 jobs, and then about 1 and 2 of the 3.
        let more = if is_refused { 4 } else { 1 };
        assert_eq!(calls.len(), 1 + more, "{calls:?}");
        for n in 0..5 {
            let expected = if n == 2 {
                Status::Failed
            } else {
                Status::Completed
            };
            assert_eq!(world.task(n).status, expected, "{n}");
        }
    }
}

#[test]
fn a_refused_question_about_one_job_is_followed_by_one_about_it_alone() {
    let world = World::new(1, 0);
    *world.answer.borrow_mut() =
        Box::new(|_| (404, json!({ "code": 1203, "message": "no such task" })));
    assert_eq!(world.round().len(), 2);
    assert_eq!(world.task(0).status, Status::Failed);
}

/// Checks that the job because of which Kling refuses every question is found with 14 more questions: a hundred can be
/// halved seven times, and each time two questions follow.
#[test]
fn one_job_that_spoils_a_question_about_a_hundred_costs_fourteen_more() {
    for spoiled in [0, 37, MOST - 1] {
        let world = World::new(MOST, 0);
        let gone = format!("their-{}", world.tasks[spoiled]);
        *world.answer.borrow_mut() = Box::new(move |names| {
            if names.contains(&gone.as_str()) {
                return (404, json!({ "code": 1203, "message": "no such task" }));
            }
            all(names, "succeeded")
        });
        let calls = world.round();
        assert!((2..=1 + 14).contains(&calls.len()), "{}", calls.len());
        for n in 0..MOST {
            let expected = if n == spoiled {
                Status::Failed
            } else {
                Status::Completed
            };
            assert_eq!(world.task(n).status, expected, "{n}");
        }
        assert!(world.round().is_empty());
    }
}

/// Checks that many such jobs cost a round no more questions than one. Each round finds at least one, and the others
/// wait unharmed.
#[test]
fn a_round_asks_no_more_if_kling_refuses_every_question() {
    let world = World::new(MOST, 0);
    *world.answer.borrow_mut() =
        Box::new(|_| (404, json!({ "code": 1203, "message": "no such task" })));
    let calls = world.round();
    assert_eq!(calls.len(), 1 + 14);
    let failed = |world: &World| {
        let tasks = (0..MOST).map(|n| world.task(n));
        tasks.filter(|task| task.status == Status::Failed).count()
    };
    let ended = failed(&world);
    assert!((1..=14).contains(&ended), "{ended}");
    let waits = (0..MOST).map(|n| world.task(n));
    let waits = waits.filter(|task| task.status == Status::Processing);
    let waits: Vec<_> = waits.collect();
    assert_eq!(waits.len(), MOST - ended);
    for task in waits {
        assert!(
            task.error_message
                .unwrap()
                .contains("asks about this one later")
        );
    }
    // The longest wait is over, so that all that are left are due again.
    *world.answer.borrow_mut() = Box::new(|names| all(names, "succeeded"));
    world.tick_after(300);
    assert_eq!(failed(&world), ended);
    let completed = (0..MOST).map(|n| world.task(n));
    let completed = completed.filter(|task| task.status == Status::Completed);
    assert_eq!(completed.count(), MOST - ended);
}

/// A question that fails for the moment is one error of each task, and is asked again.
#[test]
fn a_question_that_fails_for_the_moment_ends_no_task() {
    let world = World::new(7, 0);
    for (status, code) in [(401, 1002), (429, 1302), (500, 5000)] {
        *world.answer.borrow_mut() =
            Box::new(move |_| (status, json!({ "code": code, "message": "not now" })));
        assert_eq!(world.round().len(), 1, "{code}");
        for n in 0..7 {
            let task = world.task(n);
            assert_eq!(task.status, Status::Processing, "{code}");
            assert!(task.error_message.unwrap().contains("not now"));
        }
        // The longest wait is over, so that all are due again.
        *world.answer.borrow_mut() = Box::new(|names| all(names, "processing"));
        world.tick_after(300);
        assert_eq!(world.task(0).retry_count, 0);
    }
}
