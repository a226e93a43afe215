//! The engine against a service that misbehaves, on a database whose process is killed between any two
//! statements: every task ends once, with the right result, and no task is two jobs.

#![allow(clippy::unwrap_used)]

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use auth::webhooks::WebhookKey;
use platform::{
    Clock, Config, Database, HttpError, Ports, migrations,
    native::{
        AnswerWith, KillableDatabase, MapConfig, MemoryKeyValue, Published, SetClock, block_on,
        database_in,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tasks::{
    AssetStore, Callback, Context, CreateError, Engine, Executor, Failure, Fields, Media, Product,
    Progress, Registry, Status, Task, TaskError, TaskRequest, rows,
};

/// The way in which the service answers a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Fine,
    /// The service answers with an error, and has done nothing.
    Refuses,
    /// The service denies access.
    LocksOut,
    /// The service begins the job, but its answer is lost.
    AnswerLost,
    /// The service begins the job, and the process that asked is killed meanwhile.
    AskerDies,
}

/// A service that knows jobs by our names.
struct Service {
    database: Rc<KillableDatabase>,
    /// The number of times that each job is still to be asked about.
    jobs: RefCell<HashMap<String, u32>>,
    /// The jobs in the order in which they were begun.
    begun: RefCell<Vec<String>>,
    moods: RefCell<Vec<Mood>>,
    /// The number of jobs that the account may have at once.
    account: Cell<usize>,
    /// The number of tasks that the engine may have under way.
    places: Cell<u32>,
    /// The time that a submission takes, in seconds.
    seconds: Cell<u64>,
}

impl Service {
    /// The number of jobs that have not ended.
    fn running(&self) -> usize {
        self.jobs
            .borrow()
            .values()
            .filter(|left| **left > 0)
            .count()
    }
}

struct Stub(Rc<Service>);

#[async_trait(?Send)]
impl Executor for Stub {
    fn service(&self) -> &'static str {
        "stub"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["stub"]
    }

    fn title(&self) -> &'static str {
        "the stub"
    }

    fn places(&self, _: &dyn Config) -> u32 {
        self.0.places.get()
    }

    fn check(&self, _: &str, params: &mut Fields<'_>) {
        params.required_text("prompt", 100);
    }

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        assert!(params["prompt"].is_string());
        let seconds = Duration::from_secs(self.0.seconds.get());
        context.clock.sleep(seconds).await;
        let mood = self.0.moods.borrow_mut().pop().unwrap_or(Mood::Fine);
        if mood == Mood::Refuses {
            return Err(Failure::retry("refused"));
        }
        if mood == Mood::LocksOut {
            return Err(Failure::access("the key is wrong"));
        }
        let job = task.job();
        let is_known = task.was_attempted() && self.0.jobs.borrow().contains_key(&job);
        if !is_known && self.0.running() >= self.0.account.get() {
            return Err(Failure::no_place("three at most", None));
        }
        if !is_known {
            self.0.begun.borrow_mut().push(job.clone());
            self.0.jobs.borrow_mut().insert(job.clone(), 2);
        }
        match mood {
            Mood::AnswerLost => return Err(Failure::retry("no answer")),
            Mood::AskerDies => self.0.database.kill_after(0, false),
            _ => {}
        }
        Ok(Progress::Running {
            external_task_id: format!("job-{job}"),
            look_again: None,
        })
    }

    async fn poll(&self, task: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        let mood = self.0.moods.borrow_mut().pop().unwrap_or(Mood::Fine);
        if mood == Mood::LocksOut {
            return Err(Failure::access("the key is wrong"));
        }
        if mood != Mood::Fine {
            return Err(Failure::retry("no answer"));
        }
        let mut jobs = self.0.jobs.borrow_mut();
        let left = jobs.get_mut(&task.job()).unwrap();
        if *left == 0 {
            return Ok(done(&task.job()));
        }
        *left -= 1;
        Ok(Progress::Running {
            external_task_id: task.external_task_id.clone().unwrap(),
            look_again: None,
        })
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        let news = match body.get("error").and_then(Value::as_str) {
            Some("nonsense") => Err(Failure::retry("nonsense")),
            Some(error) => Err(Failure::permanent(error)),
            None => Ok(done(body.get("job")?.as_str()?)),
        };
        Some(Callback { about: None, news })
    }
}

fn done(job: &str) -> Progress {
    Progress::Done(Product {
        media: vec![Media::Url(format!("https://results/{job}"))],
        data: json!({}),
        signature: None,
    })
}

type NoHttp = fn(http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>;

/// The surroundings of engines. An engine lives no longer than an instance.
struct World {
    _folder: tempfile::TempDir,
    database: Rc<KillableDatabase>,
    clock: SetClock,
    key_value: MemoryKeyValue,
    pubsub: Published,
    config: MapConfig,
    http: AnswerWith<NoHttp>,
    service: Rc<Service>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = database_in(&folder.path().join("tasks.db")).unwrap();
        let database = Rc::new(KillableDatabase::new(file));
        let clock = SetClock::default();
        clock.0.set(1_700_000_000);
        block_on(migrations::apply(&*database, &clock)).unwrap();
        Self {
            _folder: folder,
            service: Rc::new(Service {
                database: Rc::clone(&database),
                jobs: RefCell::default(),
                begun: RefCell::default(),
                moods: RefCell::default(),
                account: Cell::new(usize::MAX),
                places: Cell::new(100),
                seconds: Cell::new(0),
            }),
            database,
            clock,
            key_value: MemoryKeyValue::default(),
            pubsub: Published::default(),
            config: MapConfig::from_pairs(&[("public_url", "http://here")]),
            http: AnswerWith(|_| Err(HttpError::NotSent("no server".into()))),
        }
    }

    fn engine(&self) -> Engine<'_> {
        Engine {
            ports: Ports {
                database: &*self.database,
                key_value: &self.key_value,
                pubsub: &self.pubsub,
                http: &self.http,
                config: &self.config,
                clock: &self.clock,
            },
            assets: AssetStore::open(&*self.database, &self.http, &self.config).unwrap(),
            registry: Registry::of(vec![Rc::new(Stub(Rc::clone(&self.service)))]),
            key: WebhookKey::new("key"),
        }
    }

    fn create(&self, prompt: &str, key: Option<&str>) -> Result<Task, CreateError> {
        self.create_with(prompt, key, 20)
    }

    fn create_with(
        &self,
        prompt: &str,
        key: Option<&str>,
        max_retries: u32,
    ) -> Result<Task, CreateError> {
        self.create_in("p", prompt, key, max_retries)
    }

    fn create_in(
        &self,
        project: &str,
        prompt: &str,
        key: Option<&str>,
        max_retries: u32,
    ) -> Result<Task, CreateError> {
        let request = json!({
            "project_id": project, "task_type": "stub", "params": { "prompt": prompt },
            "max_retries": max_retries,
        });
        let body = request.to_string();
        let Engine {
            ports, registry, ..
        } = self.engine();
        let request = TaskRequest::read(body.as_bytes())?;
        block_on(tasks::create(ports, &registry, &request, key))
    }

    fn post(&self) -> Task {
        self.create("a hill", None).unwrap()
    }

    fn post_in(&self, project: &str) -> Task {
        self.create_in(project, "a hill", None, 3).unwrap()
    }

    fn post_with(&self, max_retries: u32) -> Task {
        self.create_with("a hill", None, max_retries).unwrap()
    }

    fn task(&self, id: &str) -> Task {
        block_on(rows::get(&*self.database, id)).unwrap().unwrap()
    }

    fn call_back(&self, job: &str) -> Result<(), TaskError> {
        let body = json!({ "job": job }).to_string();
        block_on(self.engine().call_back("stub", job, body.as_bytes()))
    }

    fn wait(&self, seconds: i64) {
        self.clock.0.set(self.clock.0.get() + seconds);
    }

    fn sql(&self, sql: &str) -> Vec<platform::Row> {
        block_on(self.database.execute(sql, vec![])).unwrap()
    }

    /// The seconds from the end of a task's claim until the task is due again.
    fn wait_after_claim(&self, id: &str) -> i64 {
        let sql =
            format!("SELECT next_attempt_at - lease_until FROM aigc_tasks WHERE task_id = '{id}'");
        self.sql(&sql)[0].integer(0).unwrap()
    }

    /// Runs a round of the poller, this many seconds after the last.
    fn tick_after(&self, seconds: i64) {
        self.wait(seconds);
        block_on(self.engine().tick());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Post,
    Tick {
        killed: Option<(u32, bool)>,
    },
    /// The service calls back about one of its jobs, perhaps not for the first time.
    CallBack(u16),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let killed = prop_oneof![2 => Just(None), 1 => (1..6u32, any::<bool>()).prop_map(Some)];
    prop_oneof![
        2 => Just(Step::Post),
        4 => killed.prop_map(|killed| Step::Tick { killed }),
        1 => any::<u16>().prop_map(Step::CallBack),
        1 => any::<u8>().prop_map(Step::Wait),
    ]
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => Just(Mood::Fine),
        1 => Just(Mood::Refuses),
        1 => Just(Mood::AnswerLost),
        1 => Just(Mood::AskerDies),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(64), ..ProptestConfig::default() })]

    #[test]
    fn every_task_ends_once_with_its_own_result_and_is_one_job(
        moods in prop::collection::vec(mood(), 0..40),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let world = World::new();
        *world.service.moods.borrow_mut() = moods;
        let mut posted = vec![world.post()];
        for step in steps {
            match step {
                Step::Post => {
                    let task = world.post();
                    block_on(world.engine().take_up(&task));
                    posted.push(task);
                }
                Step::Tick { killed } => {
                    if let Some((statements, last_happens)) = killed {
                        world.database.kill_after(statements, last_happens);
                    }
                    world.tick_after(10);
                }
                Step::CallBack(which) => {
                    let begun = world.service.begun.borrow().clone();
                    if !begun.is_empty() {
                        world.call_back(&begun[usize::from(which) % begun.len()]).unwrap();
                    }
                }
                Step::Wait(seconds) => world.wait(seconds.into()),
            }
            world.database.revive();
        }
        // From here on nothing fails.
        world.service.moods.borrow_mut().clear();
        for _ in 0..80 {
            world.tick_after(10);
        }
        for task in &posted {
            let row = world.task(&task.task_id);
            prop_assert_eq!(row.status, Status::Completed, "{:?}", row);
            prop_assert_eq!(row.result_url, Some(format!("https://results/{}", task.task_id)));
            // Taken up once, ended once.
            prop_assert_eq!(row.version, 2);
        }
        let begun = world.service.begun.borrow();
        let distinct: HashSet<&String> = begun.iter().collect();
        prop_assert_eq!(begun.len(), distinct.len(), "a task became two jobs");
    }
}

#[test]
fn a_task_that_has_not_ended_in_time_is_cancelled_and_says_why() {
    let world = World::new();
    let (late, other) = (world.post(), world.post());
    world.sql(&format!(
        "UPDATE aigc_tasks SET cancel_at = created_at + 30 WHERE task_id = '{}'",
        late.task_id
    ));
    world.service.account.set(0);
    world.tick_after(29);
    assert_eq!(world.task(&late.task_id).status, Status::Pending);
    world.tick_after(1);
    let cancelled = world.task(&late.task_id);
    assert_eq!(cancelled.status, Status::Cancelled);
    let words = "cancelled, because it had not ended 30 s after it was posted";
    assert_eq!(cancelled.error_message.as_deref(), Some(words));
    let told = world.pubsub.0.borrow().last().cloned().unwrap().1;
    let told: Value = serde_json::from_slice(&told).unwrap();
    let event = json!({ "task_id": late.task_id, "project_id": "p", "status": "cancelled" });
    assert_eq!(told, event);
    assert_eq!(world.task(&other.task_id).status, Status::Pending);
    // A retry has all the time that it needs.
    let again = block_on(world.engine().set_back(&cancelled)).unwrap();
    assert_eq!(again.cancel_at, None);
}

#[test]
fn the_last_tries_of_a_task_are_kept() {
    let world = World::new();
    let task = world.post_with(20);
    *world.service.moods.borrow_mut() = vec![Mood::Refuses; 2];
    for _ in 0..2 {
        world.tick_after(400);
    }
    world.tick_after(400);
    let tries = block_on(rows::tries(&*world.database, &task.task_id)).unwrap();
    let told: Vec<(&str, Option<&str>)> = tries
        .iter()
        .map(|one| (one.tried.as_str(), one.error.as_deref()))
        .collect();
    let refused = ("submission", Some("refused"));
    assert_eq!(told[..3], [refused, refused, ("submission", None)]);
    // No more than twenty are kept.
    for n in 0..30 {
        world.sql(&format!(
            "UPDATE aigc_tasks SET retry_count = retry_count + 1, error_message = 'error {n}' WHERE task_id = '{}'",
            task.task_id
        ));
    }
    let tries = block_on(rows::tries(&*world.database, &task.task_id)).unwrap();
    assert_eq!(tries.len(), 20);
    assert_eq!(tries[19].error.as_deref(), Some("error 29"));
}

/// An instance that was asked may be at work although its answer does not come.
#[test]
fn a_task_is_submitted_here_only_if_no_other_instance_can_have_been_asked() {
    for (error, is_here) in [
        (HttpError::NotSent("no server".into()), true),
        (HttpError::NoAnswer("cut".into()), false),
    ] {
        let world = World::new();
        let task = world.post();
        let http = AnswerWith(|_: http::Request<Vec<u8>>| Err(error.clone()));
        let mut engine = world.engine();
        engine.ports.http = &http;
        block_on(engine.take_up(&task));
        assert_eq!(!world.service.begun.borrow().is_empty(), is_here, "{error}");
    }
}

/// The next round begins ten seconds after this one.
#[test]
fn a_round_begins_nothing_more_after_nine_seconds() {
    for (seconds, expected) in [(0, 6), (2, 5), (3, 3), (4, 3), (9, 1)] {
        let world = World::new();
        for _ in 0..6 {
            world.post();
        }
        world.service.seconds.set(seconds);
        world.tick_after(0);
        let begun = world.service.begun.borrow().len();
        assert_eq!(begun, expected, "{seconds} s each");
    }
}

#[test]
fn two_pollers_submit_a_task_once() {
    let world = World::new();
    let task = world.post();
    let (one, other) = (world.engine(), world.engine());
    block_on(async { futures_util::join!(one.tick(), other.tick()) });
    assert_eq!(*world.service.begun.borrow(), [task.job()]);
}

#[test]
fn the_poller_asks_for_submissions_elsewhere_until_none_is_due() {
    for (statuses, expected) in [(vec![204, 202, 202], 3), (vec![202, 503], 1)] {
        let world = World::new();
        world.post();
        let left = RefCell::new(statuses);
        let asked = RefCell::new(0);
        let http = AnswerWith(|request: http::Request<Vec<u8>>| {
            assert_eq!(request.uri(), "/internal/submissions/stub");
            *asked.borrow_mut() += 1;
            let status = left.borrow_mut().pop().unwrap();
            Ok(http::Response::builder()
                .status(status)
                .body(vec![])
                .unwrap())
        });
        let mut engine = world.engine();
        engine.ports.http = &http;
        block_on(engine.tick());
        assert_eq!(*asked.borrow(), expected);
        // The instances that were asked do the work, and this one does none of it.
        assert!(world.service.begun.borrow().is_empty());
    }
}

#[test]
fn only_the_signature_of_the_service_and_the_job_is_authentic() {
    let world = World::new();
    let engine = world.engine();
    let signature = engine.key.sign("stub", "job");
    assert!(engine.authenticate("stub", "job", &signature).is_ok());
    for (job, signature) in [("other", signature.as_str()), ("job", ""), ("", "")] {
        let refused = engine.authenticate("stub", job, signature);
        assert!(
            matches!(refused, Err(TaskError::BadSignature)),
            "{job} {signature}"
        );
    }
    let signature = engine.key.sign("unknown", "job");
    let unknown = engine.authenticate("unknown", "job", &signature);
    assert!(matches!(unknown, Err(TaskError::NotFound)));
}

#[test]
fn errors_are_retried_and_the_last_one_is_shown() {
    let world = World::new();
    let task = world.post();
    *world.service.moods.borrow_mut() = vec![Mood::Refuses; 100];
    for n in 1..=20 {
        // This is the longest wait after an error.
        world.tick_after(300);
        let row = world.task(&task.task_id);
        assert_eq!((row.status, row.retry_count), (Status::Processing, n));
    }
    world.tick_after(300);
    let row = world.task(&task.task_id);
    assert_eq!(row.status, Status::Failed);
    assert_eq!(row.error_message.as_deref(), Some("refused"));
    assert_eq!(row.completed_at, Some(world.clock.unix_seconds()));
}

#[test]
fn still_running_costs_no_retry() {
    let world = World::new();
    let task = world.post();
    world.tick_after(10);
    world.service.jobs.borrow_mut().insert(task.job(), 1000);
    let accepted = world.clock.unix_seconds();
    for _ in 0..100 {
        world.tick_after(10);
    }
    let row = world.task(&task.task_id);
    assert_eq!((row.status, row.retry_count), (Status::Processing, 0));
    assert_eq!(row.updated_at, accepted, "nothing is written");
    let left = world.service.jobs.borrow()[&task.job()];
    assert_eq!(left, 900, "asked every 10 s");
}

#[test]
fn a_finished_task_never_changes_again() {
    let world = World::new();
    let task = world.post();
    world.tick_after(10);
    let cancelled = block_on(world.engine().cancel(&task)).unwrap();
    assert_eq!(cancelled.status, Status::Cancelled);
    world.call_back(&task.job()).unwrap();
    for _ in 0..5 {
        world.tick_after(10);
    }
    assert_eq!(world.task(&task.task_id), cancelled);
    let again = block_on(world.engine().cancel(&task));
    assert!(matches!(again, Err(TaskError::Finished)));
}

#[test]
fn a_task_that_is_set_back_is_another_job_and_late_news_of_the_first_is_ignored() {
    let world = World::new();
    let engine = world.engine();
    let task = world.post();
    let too_early = block_on(engine.set_back(&task));
    assert!(matches!(too_early, Err(TaskError::NotRetryable)));
    world.tick_after(10);
    block_on(engine.cancel(&task)).unwrap();
    let again = block_on(engine.set_back(&task)).unwrap();
    assert_eq!((again.status, again.retry_count), (Status::Pending, 0));
    block_on(engine.take_up(&again));
    world.call_back(&task.job()).unwrap();
    assert_eq!(world.task(&task.task_id).status, Status::Processing);
    assert_eq!(*world.service.begun.borrow(), [task.job(), again.job()]);
    for _ in 0..5 {
        world.tick_after(10);
    }
    let url = format!("https://results/{}", again.job());
    assert_eq!(world.task(&task.task_id).result_url, Some(url));
}

#[test]
fn the_same_request_under_one_key_is_one_task() {
    let world = World::new();
    let first = world.create("a", Some("key")).unwrap();
    assert_eq!(
        world.create("a", Some("key")).unwrap().task_id,
        first.task_id
    );
    let conflict = world.create("b", Some("key"));
    assert!(matches!(conflict, Err(CreateError::Conflict)));
    assert_ne!(world.create("a", None).unwrap().task_id, first.task_id);
    assert_ne!(
        world.create("a", Some("other")).unwrap().task_id,
        first.task_id
    );
}

/// A task that kills an instance may kill the next one too, and each try may be paid for.
#[test]
fn a_task_that_kills_its_instance_each_time_ends() {
    let world = World::new();
    let task = world.post_with(3);
    *world.service.moods.borrow_mut() = vec![Mood::AskerDies; 100];
    let mut waits = Vec::new();
    for n in 0..=3 {
        world.tick_after(400);
        world.database.revive();
        let row = world.task(&task.task_id);
        assert_eq!((row.status, row.retry_count), (Status::Processing, n));
        assert_eq!(row.error_message.is_some(), n > 0, "{row:?}");
        waits.push(world.wait_after_claim(&task.task_id));
    }
    let told = world.pubsub.0.borrow().len();
    for _ in 0..5 {
        world.tick_after(400);
        world.database.revive();
    }
    let row = world.task(&task.task_id);
    assert_eq!(row.status, Status::Failed);
    assert!(
        row.error_message
            .unwrap()
            .contains("may have charged for it")
    );
    assert_eq!(
        world.service.moods.borrow().len(),
        100 - 4,
        "four tries in all"
    );
    assert_eq!(
        world.pubsub.0.borrow().len(),
        told + 1,
        "its end is published"
    );
    // Half of 2, 4, 8 and 16 s at least, and all of it at most.
    for (n, wait) in waits.iter().enumerate() {
        let longest = 2 << n;
        assert!((longest / 2..=longest).contains(wait), "{waits:?}");
    }
}

#[test]
fn tasks_that_died_together_do_not_come_back_together() {
    let world = World::new();
    let tasks: Vec<Task> = (0..20).map(|_| world.post()).collect();
    world.sql(
        "UPDATE aigc_tasks SET retry_count = 6, status = 'processing', attempts = 1,
             lease_until = next_attempt_at, next_attempt_at = next_attempt_at",
    );
    *world.service.moods.borrow_mut() = vec![Mood::AskerDies; 20];
    for _ in &tasks {
        // One dies at a time.
        world.tick_after(1);
        world.database.revive();
    }
    let waits: HashSet<i64> = tasks
        .iter()
        .map(|task| world.wait_after_claim(&task.task_id))
        .collect();
    assert!(waits.len() > 5, "{waits:?}");
    assert!(
        waits.iter().all(|wait| (128..=256).contains(wait)),
        "{waits:?}"
    );
}

/// An accepted job is paid for, so its result must not be lost because of an error that concerns this server.
#[test]
fn an_accepted_job_is_asked_about_for_as_long_as_its_service_keeps_results() {
    let world = World::new();
    let task = world.post_with(0);
    world.tick_after(10);
    *world.service.moods.borrow_mut() = vec![Mood::LocksOut; 10_000];
    let day = 24 * 3600;
    for days in 1..30 {
        world.tick_after(day);
        let row = world.task(&task.task_id);
        assert_eq!((row.status, row.retry_count), (Status::Processing, days));
        assert_eq!(row.error_message.as_deref(), Some("the key is wrong"));
    }
    world.service.moods.borrow_mut().clear();
    world.service.jobs.borrow_mut().insert(task.job(), 0);
    for _ in 0..4 {
        world.tick_after(300);
    }
    assert_eq!(world.task(&task.task_id).status, Status::Completed);

    let late = world.post_with(0);
    world.tick_after(10);
    *world.service.moods.borrow_mut() = vec![Mood::LocksOut; 10_000];
    world.tick_after(30 * day);
    let row = world.task(&late.task_id);
    assert_eq!(row.status, Status::Failed);
    assert_eq!(row.error_message.as_deref(), Some("the key is wrong"));
}

#[test]
fn a_service_that_denies_access_ends_a_task_that_it_has_not_accepted() {
    let world = World::new();
    let task = world.post();
    *world.service.moods.borrow_mut() = vec![Mood::LocksOut];
    world.tick_after(10);
    let row = world.task(&task.task_id);
    assert_eq!((row.status, row.retry_count), (Status::Failed, 0));
    assert_eq!(row.error_message.as_deref(), Some("the key is wrong"));
}

#[test]
fn nonsense_in_a_callback_does_not_end_a_job_and_an_error_is_cut() {
    let world = World::new();
    let task = world.post();
    world.tick_after(10);
    let call = |error: &str| {
        let body = json!({ "error": error }).to_string();
        block_on(
            world
                .engine()
                .call_back("stub", &task.job(), body.as_bytes()),
        )
    };
    assert!(matches!(call("nonsense"), Err(TaskError::NotACallback)));
    assert_eq!(world.task(&task.task_id).status, Status::Processing);
    call(&"no ".repeat(4_000_000)).unwrap();
    let row = world.task(&task.task_id);
    assert_eq!(row.status, Status::Failed);
    assert_eq!(row.error_message.unwrap().len(), 500);
}

/// A clock that was ahead for a while has written times that lie in the future now.
#[test]
fn tasks_are_due_after_the_clock_was_set_back() {
    let day = 24 * 3600;
    let world = World::new();
    // One task is under way, the submission of one was refused, and one is being submitted by an instance that died.
    *world.service.moods.borrow_mut() = vec![Mood::AskerDies, Mood::Refuses, Mood::Fine];
    world.wait(day);
    let tasks: Vec<Task> = (0..3).map(|_| world.post()).collect();
    for task in &tasks {
        block_on(world.engine().take_up(task));
        world.database.revive();
    }
    world.wait(-day);
    for _ in 0..20 {
        world.tick_after(10);
    }
    for task in &tasks {
        let row = world.task(&task.task_id);
        assert_eq!(row.status, Status::Completed, "{row:?}");
    }
    // An agent waits for its notification. No wait between two notifications is longer than 10,240 s.
    let wait = |seconds: i64| {
        world.sql(&format!(
            "UPDATE aigc_tasks SET callback_url = 'http://127.0.0.1:1/', notify_attempts = 0, notify_at = {}",
            world.clock.unix_seconds() + 10 + seconds
        ));
        world.tick_after(10);
    };
    wait(10_240);
    let sql = "SELECT 1 FROM aigc_tasks WHERE notify_attempts > 0";
    assert_eq!(world.sql(sql).len(), 0);
    wait(10_241);
    let sql = "SELECT min(notify_attempts), max(notify_at) FROM aigc_tasks";
    let row = &world.sql(sql)[0];
    assert_eq!(row.integer(0).unwrap(), 1);
    assert_eq!(row.integer(1).unwrap(), world.clock.unix_seconds() + 20);
}

#[test]
fn a_run_knows_the_jobs_of_earlier_runs() {
    let world = World::new();
    let engine = world.engine();
    let task = world.post();
    // The first run never reached its service.
    block_on(engine.cancel(&task)).unwrap();
    let again = block_on(engine.set_back(&task)).unwrap();
    assert_eq!(again.earlier_jobs(), [""; 0]);
    // The answer to the second run is lost.
    *world.service.moods.borrow_mut() = vec![Mood::AnswerLost];
    block_on(engine.take_up(&again));
    block_on(engine.cancel(&again)).unwrap();
    let third = block_on(engine.set_back(&again)).unwrap();
    assert_eq!(third.earlier_jobs(), [again.job()]);
    // The third run was accepted.
    block_on(engine.take_up(&third));
    let accepted = world.task(&task.task_id);
    block_on(engine.cancel(&accepted)).unwrap();
    let fourth = block_on(engine.set_back(&accepted)).unwrap();
    let paid = accepted.external_task_id.unwrap();
    assert_eq!(fourth.earlier_jobs(), [&paid, &again.job()]);
    assert_eq!(fourth.accepted_at, None);
    // A run that gets no further than asking about these jobs forgets none of them.
    *world.service.moods.borrow_mut() = vec![Mood::LocksOut];
    block_on(engine.take_up(&fourth));
    let fifth = block_on(engine.set_back(&fourth)).unwrap();
    assert_eq!(fifth.earlier_jobs(), [&paid, &fourth.job(), &again.job()]);
    // The same job several times is one name.
    world.sql(&format!(
        "UPDATE aigc_tasks SET status = 'failed', external_task_id = '{paid}'"
    ));
    let sixth = block_on(engine.set_back(&fifth)).unwrap();
    assert_eq!(sixth.earlier_jobs, fifth.earlier_jobs);
}

/// A user reports: "Six films at an account of three places: three failed with 1303."
#[test]
fn six_jobs_at_an_account_of_three_places_all_complete() {
    let world = World::new();
    world.service.account.set(3);
    let tasks: Vec<Task> = (0..6).map(|_| world.post_with(0)).collect();
    for task in &tasks {
        block_on(world.engine().take_up(task));
    }
    assert_eq!(world.service.begun.borrow().len(), 3);
    let mut waiting = 0;
    for task in &tasks {
        let row = world.task(&task.task_id);
        assert_eq!((row.retry_count, &row.error_message), (0, &None), "{row:?}");
        if row.status == Status::Pending {
            let message = "waiting for a place at the stub";
            assert_eq!(row.message.as_deref(), Some(message));
            waiting += 1;
        } else {
            assert_eq!((row.status, row.message), (Status::Processing, None));
        }
    }
    assert_eq!(waiting, 3);
    for _ in 0..30 {
        world.tick_after(10);
        assert!(world.service.running() <= 3);
    }
    for task in &tasks {
        let row = world.task(&task.task_id);
        assert_eq!(row.status, Status::Completed, "{row:?}");
        assert_eq!((row.retry_count, row.message), (0, None));
    }
    assert_eq!(world.service.begun.borrow().len(), 6);
}

#[test]
fn a_service_that_never_has_a_place_is_asked_more_and_more_rarely_and_not_for_ever() {
    let world = World::new();
    world.service.account.set(0);
    let task = world.post_with(0);
    let mut pauses = Vec::new();
    while world.task(&task.task_id).completed_at.is_none() {
        assert!(pauses.len() < 1000, "the service is asked for ever");
        world.tick_after(300);
        let pause = format!(
            "SELECT probe_at - {} FROM aigc_places",
            world.clock.unix_seconds()
        );
        pauses.push(world.sql(&pause)[0].integer(0).unwrap());
    }
    // The last try ends the task, and notes nothing.
    assert_eq!(pauses.len(), 401);
    assert!(pauses.pop().is_some_and(|pause| pause <= 0));
    for (pause, longest) in pauses.iter().zip([10, 20, 40, 80, 160, 300, 300]) {
        assert!((longest / 2..=longest).contains(pause), "{pauses:?}");
    }
    assert!(
        pauses[6..].iter().all(|pause| (150..=300).contains(pause)),
        "{pauses:?}"
    );
    let row = world.task(&task.task_id);
    assert_eq!((row.status, row.retry_count), (Status::Failed, 0));
    assert_eq!(row.error_message.as_deref(), Some("three at most"));
}

/// A user posts ten tasks, and another user posts two a moment later.
#[test]
fn projects_take_turns_and_none_has_more_than_its_share() {
    let world = World::new();
    world.service.places.set(5);
    let many: Vec<Task> = (0..10).map(|_| world.post_in("a")).collect();
    let few: Vec<Task> = (0..2).map(|_| world.post_in("b")).collect();
    world.tick_after(1);
    let [a, b] = [&many, &few].map(|tasks| tasks.iter().map(Task::job).collect::<Vec<_>>());
    let begun = |from: usize| world.service.begun.borrow()[from..].to_vec();
    // Of five places one project has three at most.
    assert_eq!(
        begun(0),
        [&a[0], &b[0], &a[1], &b[1], &a[2]].map(Clone::clone)
    );
    world.tick_after(1);
    assert_eq!(begun(5), [""; 0], "every place is taken");
    world.wait(5);
    world.tick_after(0);
    let waiting = world.task(&many[3].task_id);
    assert_eq!(waiting.status, Status::Pending);
    let message = "waiting for a place at the stub";
    assert_eq!(waiting.message.as_deref(), Some(message));
    for _ in 0..20 {
        world.tick_after(10);
        for (which, most) in [("1", 5), ("project_id = 'a'", 3)] {
            let under_way =
                format!("SELECT count(*) FROM aigc_tasks WHERE status = 'processing' AND {which}");
            assert!(world.sql(&under_way)[0].integer(0).unwrap() <= most);
        }
    }
    assert_eq!(begun(5), a[3..]);
    for task in many.iter().chain(&few) {
        assert_eq!(world.task(&task.task_id).status, Status::Completed);
    }
}

/// A user reports: "It says processing since last week."
#[test]
fn a_job_that_never_ends_fails_and_says_why() {
    let world = World::new();
    let task = world.post();
    world.tick_after(10);
    world.service.jobs.borrow_mut().insert(task.job(), 100_000);
    for _ in 0..23 {
        world.tick_after(3600);
    }
    assert_eq!(world.task(&task.task_id).status, Status::Processing);
    world.tick_after(3600);
    let row = world.task(&task.task_id);
    assert_eq!(row.status, Status::Failed);
    let words = row.error_message.unwrap();
    assert!(
        words.contains("for 24 h") && words.contains("retry"),
        "{words}"
    );
    let again = block_on(world.engine().set_back(&task)).unwrap();
    let old = row.external_task_id.unwrap();
    assert_eq!(again.earlier_jobs(), [old], "its result is looked for");
}

#[test]
fn a_retry_counts_as_posted() {
    let world = World::new();
    let (first, second) = (world.post(), world.post());
    let seq = |task: &Task| world.task(&task.task_id).seq;
    assert!(seq(&first) < seq(&second));
    block_on(world.engine().cancel(&first)).unwrap();
    block_on(world.engine().set_back(&first)).unwrap();
    assert!(seq(&first) > seq(&second));
}

/// A user reports: "Three places, and after each film ten seconds pass until the next begins."
#[test]
fn the_end_of_a_job_lets_the_next_begin_at_once() {
    type EndIt = fn(&Engine<'_>, &Task);
    let by_callback: EndIt = |engine, task| {
        let body = json!({ "job": task.job() }).to_string();
        block_on(engine.call_back("stub", &task.job(), body.as_bytes())).unwrap();
    };
    let by_poll: EndIt = |engine, _| block_on(engine.tick());
    let by_cancel: EndIt = |engine, task| {
        block_on(async { engine.ended(&engine.cancel(task).await.unwrap()).await });
    };
    for (name, end, waiting, expected) in [
        ("a callback", by_callback, 2, 1),
        ("a callback, and none waits", by_callback, 0, 0),
        // The poller's round itself asks once more.
        ("a poll", by_poll, 2, 2),
        ("its user", by_cancel, 2, 1),
    ] {
        let world = World::new();
        world.service.places.set(1);
        let first = world.post();
        world.tick_after(0);
        world.service.jobs.borrow_mut().insert(first.job(), 0);
        for _ in 0..waiting {
            world.post();
        }
        world.wait(10);
        let asked = Cell::new(0);
        let http = AnswerWith(|request: http::Request<Vec<u8>>| {
            assert_eq!(request.uri(), "/internal/submissions/stub");
            asked.set(asked.get() + 1);
            let answer = http::Response::builder().status(204);
            Ok(answer.body(vec![]).unwrap())
        });
        let mut engine = world.engine();
        engine.ports.http = &http;
        end(&engine, &world.task(&first.task_id));
        assert_eq!(asked.get(), expected, "{name}");
    }
}

#[test]
fn a_task_that_held_no_place_or_was_refused_lets_no_other_begin() {
    let world = World::new();
    let (refused, waiting) = (world.post(), world.post());
    world.service.moods.borrow_mut().push(Mood::LocksOut);
    let asked = Cell::new(0);
    let http = AnswerWith(|_: http::Request<Vec<u8>>| {
        asked.set(asked.get() + 1);
        Err(HttpError::NotSent("no server".into()))
    });
    let mut engine = world.engine();
    engine.ports.http = &http;
    let claimed = block_on(engine.claim_next("stub")).unwrap().unwrap();
    assert_eq!(claimed.task_id, refused.task_id);
    block_on(engine.submit_claimed(claimed));
    assert_eq!(world.task(&refused.task_id).status, Status::Failed);
    let cancelled = block_on(engine.cancel(&waiting)).unwrap();
    block_on(engine.ended(&cancelled));
    assert_eq!(asked.get(), 0);
}
