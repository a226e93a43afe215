//! The answers and callbacks of a service, and what becomes of a result.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use auth::webhooks::WebhookKey;
use http::{Request, Response};
use platform::{
    HttpClient, HttpError, Ports,
    http_client::Limits,
    native::{self, MapConfig, block_on},
};
use serde_json::{Value, json};
use tasks::{
    AssetStore, Callback, Context, Engine, Executor, Failure, Fields, Media, Product, Progress,
    Registry, Status, Task, TaskError, TaskRequest, rows,
};

/// The service's name for the job of every task.
const JOB: &str = "job-7";

type News = Result<Progress, Failure>;

/// A service that accepts every task, and says in a callback what the test wants.
struct Painter {
    name: &'static str,
    /// The service's name for a job.
    job: RefCell<String>,
    /// The time after which the service expects to be asked about a new job.
    look_again: Cell<Option<Duration>>,
    polls: Cell<u32>,
    /// The number of submissions for which the service has no place.
    refuses: Cell<u32>,
    says: RefCell<Option<(Option<String>, News)>>,
    /// The addresses for callbacks that the service was given.
    addresses: RefCell<Vec<String>>,
    /// The number of jobs that the engine has asked the service to cancel.
    unwanted: Cell<u32>,
}

impl Painter {
    fn new(name: &'static str) -> Rc<Self> {
        Rc::new(Self {
            name,
            job: RefCell::new(JOB.into()),
            look_again: Cell::default(),
            polls: Cell::default(),
            refuses: Cell::default(),
            says: RefCell::default(),
            addresses: RefCell::default(),
            unwanted: Cell::default(),
        })
    }
}

/// The service as the engine knows it.
struct Known(Rc<Painter>);

fn running() -> News {
    Ok(Progress::Running {
        external_task_id: JOB.into(),
        look_again: None,
    })
}

#[async_trait(?Send)]
impl Executor for Known {
    fn service(&self) -> &'static str {
        self.0.name
    }

    fn task_types(&self) -> &'static [&'static str] {
        if self.0.name == "painter" {
            &["painting"]
        } else {
            &[]
        }
    }

    fn check(&self, _: &str, _: &mut Fields<'_>) {}

    async fn submit(&self, _: &Task, _: &Value, context: &Context<'_>) -> News {
        let mut addresses = self.0.addresses.borrow_mut();
        addresses.push(context.callback_url.to_owned());
        if let Some(left) = self.0.refuses.get().checked_sub(1) {
            self.0.refuses.set(left);
            return Err(Failure::no_place("no place", None));
        }
        Ok(Progress::Running {
            external_task_id: self.0.job.borrow().clone(),
            look_again: self.0.look_again.get(),
        })
    }

    async fn poll(&self, _: &Task, _: &Value, _: &Context<'_>) -> News {
        self.0.polls.set(self.0.polls.get() + 1);
        running()
    }

    async fn cancel(&self, _: &Task, _: &Context<'_>) {
        self.0.unwanted.set(self.0.unwanted.get() + 1);
    }

    fn process_webhook(&self, _: &Value) -> Option<Callback> {
        let (about, news) = self.0.says.borrow().clone()?;
        Some(Callback { about, news })
    }
}

/// An Internet with the agent that posted the task, in which the app cannot ask itself.
struct Agent {
    told: RefCell<Vec<Value>>,
    /// The status of its answers.
    status: Cell<u16>,
}

#[async_trait(?Send)]
impl HttpClient for Agent {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: Limits,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        if request.uri().host() != Some("agent.example") {
            return Err(HttpError::NotSent("no server".into()));
        }
        let told = serde_json::from_slice(request.body()).unwrap();
        self.told.borrow_mut().push(told);
        let answer = Response::builder().status(self.status.get());
        Ok(answer.body(Vec::new()).unwrap())
    }
}

struct World {
    native: native::World,
    agent: Agent,
    painter: Rc<Painter>,
    other: Rc<Painter>,
}

impl World {
    fn new() -> Self {
        let native = native::World::new(MapConfig::from_pairs(&[("public_url", "http://here")]));
        native.clock.0.set(1_700_000_000);
        Self {
            native,
            agent: Agent {
                told: RefCell::default(),
                status: Cell::new(204),
            },
            painter: Painter::new("painter"),
            other: Painter::new("other"),
        }
    }

    fn engine(&self) -> Engine<'_> {
        let ports = Ports {
            http: &self.agent,
            ..self.native.ports()
        };
        let services: [Rc<dyn Executor>; 2] = [
            Rc::new(Known(Rc::clone(&self.painter))),
            Rc::new(Known(Rc::clone(&self.other))),
        ];
        Engine {
            ports,
            assets: AssetStore::open(ports.database, ports.http, ports.config).unwrap(),
            registry: Registry::of(services.into()),
            key: WebhookKey::new("key"),
        }
    }

    /// A task that no service has seen yet.
    fn post(&self) -> Task {
        self.post_telling(&["completed", "failed", "cancelled"])
    }

    /// A task that no service has seen yet, whose agent wants to be notified of these events.
    fn post_telling(&self, events: &[&str]) -> Task {
        let body = json!({
            "project_id": "p", "task_type": "painting", "params": {},
            "callback_url": "https://agent.example/hook", "events": events,
        })
        .to_string();
        let Engine {
            ports, registry, ..
        } = self.engine();
        let request = TaskRequest::read(body.as_bytes()).unwrap();
        block_on(tasks::create(ports, &registry, &request, None)).unwrap()
    }

    /// A task that the service has accepted.
    fn accepted(&self) -> Task {
        let task = self.post();
        block_on(self.engine().take_up(&task));
        let task = self.task(&task);
        assert_eq!(task.status, Status::Processing);
        assert_eq!(task.external_task_id.as_deref(), Some(JOB));
        task
    }

    fn task(&self, task: &Task) -> Task {
        let database = self.native.ports().database;
        block_on(rows::get(database, &task.task_id))
            .unwrap()
            .unwrap()
    }

    /// Calls the address of this job as the service does.
    fn call(&self, job: &str, about: Option<&str>, news: News) -> Result<(), TaskError> {
        let says = (about.map(str::to_owned), news);
        self.painter.says.replace(Some(says));
        block_on(self.engine().call_back("painter", job, b"{}"))
    }
}

fn product(media: Vec<Media>, data: Value) -> News {
    Ok(Progress::Done(Product {
        media,
        data,
        signature: None,
    }))
}

fn done() -> News {
    product(vec![picture(1)], json!({}))
}

fn picture(number: usize) -> Media {
    Media::Url(format!("https://painter.example/{number}.png"))
}

/// The outcome of a callback in one word.
fn word(outcome: Result<(), TaskError>) -> &'static str {
    match outcome {
        Ok(()) => "taken",
        Err(TaskError::NotFound) => "not found",
        Err(TaskError::NotACallback) => "not a callback",
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_address_that_a_service_gets_is_authentic_for_its_job() {
    let world = World::new();
    let task = world.accepted();
    let addresses = world.painter.addresses.borrow();
    let path = addresses[0].strip_prefix("http://here/webhooks/painter?job=");
    let (job, signature) = path.unwrap().split_once("&signature=").unwrap();
    assert_eq!(job, task.job());
    let engine = world.engine();
    assert!(engine.authenticate("painter", job, signature).is_ok());
    assert!(engine.authenticate("other", job, signature).is_err());
    assert!(
        engine
            .authenticate("painter", "task_1_a", signature)
            .is_err()
    );
}

#[test]
fn a_callback_is_taken_if_it_is_about_the_job() {
    let failed = |failure| Err::<Progress, _>(failure);
    for (about, news, outcome, status) in [
        (None, done(), "taken", Status::Completed),
        (Some(JOB), done(), "taken", Status::Completed),
        (Some("ours"), done(), "taken", Status::Completed),
        (Some("job-8"), done(), "not found", Status::Processing),
        (None, running(), "taken", Status::Processing),
        (
            None,
            failed(Failure::permanent("no")),
            "taken",
            Status::Failed,
        ),
        // A failure that does not concern the job ends no task: a poll finds out how the job is.
        (
            None,
            failed(Failure::access("no")),
            "not a callback",
            Status::Processing,
        ),
        (
            None,
            failed(Failure::no_place("no", None)),
            "not a callback",
            Status::Processing,
        ),
        (
            None,
            failed(Failure::retry("no")),
            "not a callback",
            Status::Processing,
        ),
    ] {
        let world = World::new();
        let task = world.accepted();
        let job = task.job();
        let about = about.map(|about| if about == "ours" { &job } else { about });
        let case = format!("{about:?} {news:?}");
        assert_eq!(word(world.call(&job, about, news)), outcome, "{case}");
        let now = world.task(&task);
        assert_eq!(now.status, status, "{case}");
        assert_eq!(now.external_task_id.as_deref(), Some(JOB), "{case}");
        // The end of a task is published once, and its agent is notified; late news changes nothing.
        let ends = usize::from(status.is_final());
        let late = world.call(&job, Some(JOB), done());
        assert_eq!(word(late), "taken", "{case}");
        let told = world.agent.told.borrow();
        assert_eq!(told.len(), 1, "{case}");
        assert_eq!(told[0]["task_id"], task.task_id.as_str());
        let expected = if ends == 1 { status } else { Status::Completed };
        assert_eq!(told[0]["status"], expected.as_str(), "{case}");
        assert_eq!(world.task(&task).status, expected, "{case}");
        let published = world.native.pubsub.0.borrow();
        let ended = published
            .iter()
            .filter(|(_, event)| String::from_utf8_lossy(event).contains(expected.as_str()));
        assert_eq!(ended.count(), 1, "{case}: {published:?}");
    }
}

#[test]
fn a_callback_may_come_before_the_answer_to_the_submission() {
    let longest = "x".repeat(255);
    let too_long = "x".repeat(256);
    for (about, outcome, known) in [
        (Some(longest.as_str()), "taken", Some(longest.as_str())),
        (Some(&too_long), "not a callback", None),
        (Some("ours"), "taken", None),
        (None, "taken", None),
    ] {
        let world = World::new();
        let task = world.post();
        let job = task.job();
        let about = about.map(|about| if about == "ours" { &job } else { about });
        assert_eq!(word(world.call(&job, about, done())), outcome, "{about:?}");
        let now = world.task(&task);
        assert_eq!(now.status == Status::Completed, outcome == "taken");
        assert_eq!(now.external_task_id.as_deref(), known, "{about:?}");
    }
}

#[test]
fn a_callback_about_another_run_changes_nothing_unless_this_run_has_its_job() {
    for (about, status) in [
        (None, Status::Processing),
        (Some("job-8"), Status::Processing),
        (Some(JOB), Status::Completed),
    ] {
        let world = World::new();
        let task = world.accepted();
        let earlier = format!("{}-r9", task.task_id);
        assert_eq!(word(world.call(&earlier, about, done())), "taken");
        assert_eq!(world.task(&task).status, status, "{about:?}");
    }
}

#[test]
fn a_callback_that_no_task_of_the_service_fits_is_refused() {
    let world = World::new();
    let task = world.accepted();
    let job = task.job();
    let says = (None, done());
    for painter in [&world.painter, &world.other] {
        painter.says.replace(Some(says.clone()));
    }
    let call = |service: &str, job: &str, body: &[u8]| {
        word(block_on(world.engine().call_back(service, job, body)))
    };
    assert_eq!(call("other", &job, b"{}"), "not found");
    assert_eq!(call("unknown", &job, b"{}"), "not found");
    assert_eq!(call("painter", "task_1_a", b"{}"), "not found");
    assert_eq!(call("painter", &job, b"{"), "not a callback");
    world.painter.says.take();
    assert_eq!(call("painter", &job, b"{}"), "not a callback");
    assert_eq!(world.task(&task).status, Status::Processing);
    // The plain form needs nothing of the service.
    let plain = json!({ "task_id": JOB, "status": "failed", "error": "no paint" });
    assert_eq!(call("painter", &job, plain.to_string().as_bytes()), "taken");
    let error = world.task(&task).error_message;
    assert_eq!(error.as_deref(), Some("no paint"));
}

#[test]
fn a_result_has_an_address_and_at_most_sixteen() {
    let text = |bytes: usize| json!({ "text": "x".repeat(bytes - r#"{"text":""}"#.len()) });
    let urls = |count| json!({ "urls": (0..count).map(address).collect::<Vec<_>>() });
    for (media, data, kept) in [
        (1, json!({}), json!({})),
        (1, json!({ "seed": 7 }), json!({ "seed": 7 })),
        (3, json!({}), urls(3)),
        (16, json!({}), urls(16)),
        (17, json!({}), urls(16)),
        (1, text(64 * 1024), text(64 * 1024)),
        (1, text(64 * 1024 + 1), json!({})),
    ] {
        let world = World::new();
        let task = world.accepted();
        let pictures = (0..media).map(picture).collect();
        world
            .call(&task.job(), None, product(pictures, data))
            .unwrap();
        let now = world.task(&task);
        assert_eq!(now.result_url, Some(address(0)));
        assert_eq!(now.result_expires_at, None, "that is not known");
        let rows = world.native.rows("SELECT result_data FROM aigc_tasks");
        let stored = rows.into_iter().next().unwrap().text(0).unwrap();
        let mut stored: Value = serde_json::from_str(&stored).unwrap();
        let source = stored.as_object_mut().unwrap().remove("source_url");
        assert_eq!(source, Some(json!(address(0))));
        assert!(
            stored == kept,
            "{media}: {} bytes",
            stored.to_string().len()
        );
    }
}

fn address(number: usize) -> String {
    format!("https://painter.example/{number}.png")
}

#[test]
fn a_result_that_comes_with_the_answer_is_kept_here_and_none_is_a_failure() {
    let world = World::new();
    let task = world.accepted();
    let inline = Media::Inline {
        media_type: "image/png".into(),
        bytes: vec![1, 2, 3],
    };
    world
        .call(&task.job(), None, product(vec![inline], json!({})))
        .unwrap();
    let url = world.task(&task).result_url.unwrap();
    assert!(url.starts_with("/assets/"), "{url}");
    let stored = world.native.rows("SELECT 1 FROM assets");
    assert_eq!(stored.len(), 1);
    let task = world.accepted();
    world
        .call(&task.job(), None, product(vec![], json!({})))
        .unwrap();
    let now = world.task(&task);
    assert_eq!((now.status, now.result_url), (Status::Failed, None));
    assert!(now.error_message.unwrap().contains("without a result"));
}

/// Checks that no result is lost because its signature is too long: only a later task needs the signature.
#[test]
fn the_signature_of_a_result_is_kept_up_to_four_mib() {
    const MOST: usize = 4 * 1024 * 1024;
    for (length, kept) in [(1, 1), (MOST, MOST), (MOST + 1, 0)] {
        let world = World::new();
        let task = world.accepted();
        let news = Progress::Done(Product {
            media: vec![picture(1)],
            data: json!({}),
            signature: Some("x".repeat(length)),
        });
        world.call(&task.job(), None, Ok(news)).unwrap();
        assert_eq!(world.task(&task).status, Status::Completed);
        let sql = "SELECT ifnull(length(signature), 0) FROM aigc_tasks";
        let stored = world.native.rows(sql)[0].integer(0).unwrap();
        assert_eq!(stored, kept as i64, "{length}");
    }
}

#[test]
fn a_cancelled_job_is_cancelled_at_the_service_that_has_accepted_it_and_no_other_job_is() {
    let cancel = |world: &World, task: &Task| {
        let engine = world.engine();
        block_on(async { engine.ended(&engine.cancel(task).await.unwrap()).await });
        world.painter.unwanted.get()
    };
    let world = World::new();
    let task = world.post();
    assert_eq!(cancel(&world, &task), 0, "it has not seen it");
    let task = world.accepted();
    assert_eq!(cancel(&world, &task), 1);
    for news in [done(), Err(Failure::permanent("no"))] {
        let task = world.accepted();
        world.call(&task.job(), None, news).unwrap();
        assert_eq!(world.painter.unwanted.get(), 1, "it has ended");
    }
}

#[test]
fn an_agent_that_does_not_answer_is_notified_ten_times_over_some_hours() {
    for answers_at in [None, Some(3)] {
        let world = World::new();
        let task = world.accepted();
        let told = || world.agent.told.borrow().len();
        let tick_after = |seconds| {
            let clock = &world.native.clock.0;
            clock.set(clock.get() + seconds);
            block_on(world.engine().tick());
        };
        world.agent.status.set(500);
        world.call(&task.job(), None, done()).unwrap();
        let mut times = 1;
        for wait in (0..9).map(|n| 20 << n) {
            assert_eq!(told(), times, "before {wait} s");
            if answers_at == Some(times) {
                world.agent.status.set(204);
            }
            tick_after(wait - 1);
            assert_eq!(told(), times, "at {wait} s");
            tick_after(1);
            if answers_at.is_none_or(|last| times <= last) {
                times += 1;
            }
        }
        assert_eq!(told(), answers_at.map_or(10, |last| last + 1));
        tick_after(1_000_000);
        assert_eq!(told(), times);
    }
}

#[test]
fn a_service_that_says_nothing_of_places_has_a_hundred_and_a_project_half_of_them() {
    let world = World::new();
    for _ in 0..51 {
        world.post();
    }
    block_on(world.engine().tick());
    assert_eq!(world.painter.addresses.borrow().len(), 50);
}

#[test]
fn an_agent_is_notified_once_of_the_start_of_its_task_however_often_there_is_no_place() {
    let world = World::new();
    world.painter.refuses.set(2);
    let task = world.post_telling(&["started"]);
    block_on(world.engine().take_up(&task));
    let waiting = world.task(&task);
    assert_eq!(waiting.status, Status::Pending);
    let words = "waiting for a place at painter";
    assert_eq!(waiting.message.as_deref(), Some(words));
    for _ in 0..10 {
        let clock = &world.native.clock.0;
        clock.set(clock.get() + 300);
        block_on(world.engine().tick());
    }
    assert_eq!(world.painter.addresses.borrow().len(), 3);
    assert_eq!(world.task(&task).external_task_id.as_deref(), Some(JOB));
    let told = world.agent.told.borrow();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["status"], "processing");
    drop(told);
    // The agent is notified at once if there is a place.
    let task = world.post_telling(&["started"]);
    block_on(world.engine().take_up(&task));
    assert_eq!(world.agent.told.borrow().len(), 2);
}

#[test]
fn an_agent_is_notified_once_of_the_start_of_a_run_however_often_there_is_an_error() {
    let world = World::new();
    let told = || world.agent.told.borrow().len();
    // A name that no row holds is an error of the submission.
    world.painter.job.replace("x".repeat(256));
    let task = world.post_telling(&["started"]);
    block_on(world.engine().take_up(&task));
    for job in [&"x".repeat(256), JOB] {
        world.painter.job.replace(job.to_owned());
        let clock = &world.native.clock.0;
        clock.set(clock.get() + 300);
        block_on(world.engine().tick());
    }
    assert_eq!(world.painter.addresses.borrow().len(), 3);
    assert_eq!(world.task(&task).external_task_id.as_deref(), Some(JOB));
    assert_eq!(told(), 1);
    // A retry by a user is a run of its own.
    let cancelled = block_on(world.engine().cancel(&world.task(&task))).unwrap();
    let again = block_on(world.engine().set_back(&cancelled)).unwrap();
    block_on(world.engine().take_up(&again));
    assert_eq!(told(), 2);
}

#[test]
fn a_submission_is_followed_by_a_poll_only_if_the_service_has_its_result_soon() {
    for (look_again, after_post, in_a_round) in [
        (None, 0, 0),
        (Some(0), 1, 1),
        // The instance of a post stays for it, but a round of the poller has other work.
        (Some(1), 1, 0),
        (Some(10), 1, 0),
        (Some(11), 0, 0),
    ] {
        let polls = |submit: fn(&World, &Task)| {
            let world = World::new();
            let look_again = look_again.map(Duration::from_secs);
            world.painter.look_again.set(look_again);
            let task = world.post();
            submit(&world, &task);
            assert_eq!(world.task(&task).status, Status::Processing);
            assert_eq!(world.painter.addresses.borrow().len(), 1);
            world.painter.polls.get()
        };
        let posted = polls(|world, task| block_on(world.engine().take_up(task)));
        let polled = polls(|world, _| block_on(world.engine().tick()));
        assert_eq!((posted, polled), (after_post, in_a_round), "{look_again:?}");
    }
}

#[test]
fn a_name_for_a_job_that_no_row_holds_is_an_error_to_be_tried_again() {
    for (bytes, is_accepted) in [(255, true), (256, false)] {
        let world = World::new();
        world.painter.job.replace("x".repeat(bytes));
        let task = world.post();
        block_on(world.engine().take_up(&task));
        let now = world.task(&task);
        assert_eq!(now.external_task_id.is_some(), is_accepted, "{bytes}");
        assert_eq!(now.retry_count, i64::from(!is_accepted), "{bytes}");
        assert!(!now.status.is_final(), "{bytes}");
    }
}
