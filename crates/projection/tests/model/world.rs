//! The ports of the model: a database that lets other processes go on at each statement, and virtual time.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use auth::webhooks::WebhookKey;
use platform::{
    Clock, Database, DatabaseError, HttpClient, HttpError, Ports, PubSub, PubSubError, Row, Value,
    http_client::Limits,
    migrations,
    native::{MapConfig, MemoryKeyValue, SetClock, SqliteFile, block_on, database_in, is_on_hrana},
};
use tasks::{AssetStore, Engine, Executor, Registry};

use crate::{
    mutant::Mutant,
    service::{Fake, Service},
    shared::{Job, Shared},
    watch::Watch,
};

/// The rule that a finished task changes only by a retry.
const FIRST_END_STANDS: &str = "CREATE TRIGGER first_end_stands BEFORE UPDATE ON aigc_tasks
      WHEN OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.run = OLD.run
       AND (NEW.status IS NOT OLD.status OR NEW.result_url IS NOT OLD.result_url
            OR NEW.error_message IS NOT OLD.error_message OR NEW.completed_at IS NOT OLD.completed_at)
     BEGIN SELECT RAISE(ABORT, 'model: a finished task changed'); END";

/// The places of the account in a crowd.
pub(crate) const CROWDED: usize = 3;

thread_local! {
    /// The database of this thread. Making it takes longer than a run.
    static DATABASE: Rc<dyn Database> = {
        let memory = ":memory:".as_ref();
        let database = if is_on_hrana() {
            database_in(memory).unwrap()
        } else {
            Box::new(SqliteFile::open(memory).unwrap().with_stable_plans().unwrap())
        };
        block_on(migrations::apply(&database, &SetClock::default())).unwrap();
        block_on(database.execute(FIRST_END_STANDS, vec![])).unwrap();
        Rc::new(database) as Rc<dyn Database>
    };
}

/// The statements that note a failure. Before them, a process may be held up for longer than its claim holds. It is not
/// held up before it notes an acceptance, because then the job may take a place beyond the bound, and the engine cannot
/// prevent that.
const NOTES_OF_FAILURES: [&str; 3] = [
    "SET retry_count = retry_count + 1,",
    "INSERT INTO aigc_places",
    "waits = waits + 1,",
];

pub(crate) struct World {
    mutant: Mutant,
    pub(crate) database: Rc<dyn Database>,
    pub(crate) shared: Rc<Shared>,
    pub(crate) services: Vec<Rc<Service>>,
    watch: Watch,
    key_value: MemoryKeyValue,
    config: MapConfig,
    /// Says whether the host lets the app ask itself.
    asks_itself: bool,
    /// Says whether there are documents. They take most of the time, so most seeds have none.
    pub(crate) has_documents: bool,
    /// The jobs that processes have begun and that the scheduler is to run.
    pub(crate) begun: RefCell<Vec<Job>>,
}

impl World {
    /// A world in which everything may go wrong.
    pub(crate) fn new(seed: u64, mutant: Mutant) -> Self {
        let shared = Rc::new(Shared::new(seed));
        // The engine does not know how many jobs the account may have.
        let account = 1 + shared.below(6) as usize;
        Self::of(shared, account, mutant)
    }

    /// A world in which nothing goes wrong, but the account has far fewer places than the setting says.
    pub(crate) fn crowd(seed: u64, mutant: Mutant) -> Self {
        let shared = Rc::new(Shared::new(seed));
        shared.places.set(10);
        shared.is_calm.set(true);
        shared.is_chaos.set(false);
        Self {
            asks_itself: true,
            has_documents: false,
            ..Self::of(shared, CROWDED, mutant)
        }
    }

    fn of(shared: Rc<Shared>, account: usize, mutant: Mutant) -> Self {
        let database = DATABASE.with(Rc::clone);
        let rows = |sql: &str| block_on(database.execute(sql, vec![])).unwrap();
        // Empties what the run before has filled.
        for mut table in rows("SELECT name FROM sqlite_schema WHERE type = 'table'") {
            rows(&format!("DELETE FROM {}", table.text(0).unwrap()));
        }
        let service = |name| Rc::new(Service::new(name, account, Rc::clone(&shared)));
        Self {
            mutant,
            database,
            services: vec![service("film"), service("picture")],
            watch: Watch::default(),
            key_value: MemoryKeyValue::default(),
            config: MapConfig::from_pairs(&[("public_url", "http://here")]),
            asks_itself: shared.below(4) > 0,
            has_documents: shared.below(4) == 0,
            begun: RefCell::default(),
            shared,
        }
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            database: self,
            key_value: &self.key_value,
            pubsub: self,
            http: self,
            config: &self.config,
            clock: self,
        }
    }

    pub(crate) fn engine(&self) -> Engine<'_> {
        let executor =
            |service: &Rc<Service>| -> Rc<dyn Executor> { Rc::new(Fake(Rc::clone(service))) };
        Engine {
            ports: self.ports(),
            assets: AssetStore::open(self, self, &self.config).unwrap(),
            registry: Registry::of(self.services.iter().map(executor).collect()),
            key: WebhookKey::new("key"),
        }
    }

    pub(crate) fn rows(&self, sql: &str) -> Vec<Row> {
        block_on(self.database.execute(sql, vec![])).unwrap()
    }

    /// Passes a refusal that the engine is about to note to the watch.
    fn watch_refusal(&self, sql: &str, parameters: &[Value]) {
        if !sql.contains("INSERT INTO aigc_places") {
            return;
        }
        let [
            _,
            _,
            Value::Text(service),
            Value::Text(task),
            Value::Integer(run),
            ..,
        ] = parameters
        else {
            panic!("{parameters:?}");
        };
        let job = match run {
            0 => task.clone(),
            run => format!("{task}-r{run}"),
        };
        let services = self.services.iter();
        let told = services
            .filter(|of| of.name == service)
            .map(|of| of.told(&job));
        let told = told.sum();
        if sql.contains("doubts)") {
            self.watch
                .asked_too_often(&*self.database, parameters, told);
        } else {
            self.watch.refused(&*self.database, parameters, told);
        }
    }

    /// Passes what was claimed or taken to the watch, which checks it.
    fn watch(&self, sql: &str, parameters: &[Value], rows: &[Row]) {
        let now = self.shared.unix_seconds();
        if sql.contains("SET doubts = 0, places = places + ?3") {
            let [Value::Text(service), _, Value::Integer(is_probe)] = parameters else {
                panic!("{parameters:?}");
            };
            self.watch.taken(service, *is_probe == 1, now);
        }
        if sql.contains("attempts = attempts + 1") {
            for row in rows {
                let task = row.clone().text(0).unwrap();
                self.watch.claimed(&*self.database, &task, now);
            }
        }
    }

    /// Checks that no service and no project has more under way than it may.
    fn check_bounds(&self) {
        let sql = "SELECT external_service, project_id, count(*) FROM aigc_tasks
              WHERE status = 'processing' AND (external_task_id IS NOT NULL OR lease_until > ?1)
              GROUP BY 1, 2";
        let now = self.shared.unix_seconds();
        let rows = block_on(self.database.execute(sql, vec![now.into()]));
        let mut under_way: HashMap<String, i64> = HashMap::new();
        for mut row in rows.unwrap() {
            let (service, count) = (row.text(0).unwrap(), row.integer(2).unwrap());
            assert!(
                count <= i64::from(self.shared.places.get().div_ceil(2)),
                "{count} of one project at {service}"
            );
            *under_way.entry(service).or_default() += count;
        }
        for (service, count) in under_way {
            let places = i64::from(self.shared.places.get());
            assert!(count <= places, "{count} at {service}");
        }
    }
}

/// Lets other processes go on.
async fn others() {
    let mut is_asked = false;
    poll_fn(|context: &mut Context<'_>| {
        if std::mem::replace(&mut is_asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait(?Send)]
impl Database for World {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        others().await;
        let shared = &self.shared;
        shared.statements.set(shared.statements.get() + 1);
        if NOTES_OF_FAILURES.iter().any(|note| sql.contains(note)) && shared.mishap(10) {
            // This process is held up, so that its claim may run out. Others learn nothing of the failure meanwhile.
            shared.dead.borrow_mut().insert(shared.process.get());
            let pause = shared.below(120_000);
            self.sleep(Duration::from_millis(pause)).await;
        }
        self.watch_refusal(sql, &parameters);
        let mutated = &self.mutant.applied(sql);
        let result = self.database.execute(mutated, parameters.clone()).await;
        match &result {
            Ok(rows) => self.watch(sql, &parameters, rows),
            Err(error) => panic!("{error}: {mutated}"),
        }
        if sql.contains("lease_until = ?1") {
            self.check_bounds();
        }
        others().await;
        result
    }
}

struct Sleep<'w> {
    shared: &'w Shared,
    at: (u64, u64),
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.now.get() >= self.at.0 {
            return Poll::Ready(());
        }
        let mut sleepers = self.shared.sleepers.borrow_mut();
        sleepers.insert(self.at, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.shared.sleepers.borrow_mut().remove(&self.at);
    }
}

#[async_trait(?Send)]
impl Clock for World {
    fn unix_seconds(&self) -> i64 {
        self.shared.unix_seconds()
    }

    async fn sleep(&self, duration: Duration) {
        let shared = &*self.shared;
        let at = (
            shared.now.get() + duration.as_millis() as u64,
            shared.number(),
        );
        Sleep { shared, at }.await;
    }
}

#[async_trait(?Send)]
impl PubSub for World {
    async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<(), PubSubError> {
        others().await;
        // If a message is lost, the sweep finds the project.
        if channel == "task-events" && self.has_documents && !self.shared.mishap(40) {
            let project = tasks::project_of_event(&payload).unwrap();
            self.begun.borrow_mut().push(Job::Project(project));
        }
        Ok(())
    }
}

#[async_trait(?Send)]
impl HttpClient for World {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        _: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        let path = request.uri().path().to_owned();
        let service = path.strip_prefix("/internal/submissions/").unwrap();
        if !self.asks_itself {
            return Err(HttpError::NotSent("forbidden".into()));
        }
        if self.shared.mishap(5) {
            return Err(HttpError::NoAnswer("lost".into()));
        }
        let answer = Rc::new(Cell::new(None));
        self.begun.borrow_mut().push(Job::Submission {
            service: service.to_owned(),
            answer: Rc::clone(&answer),
        });
        loop {
            others().await;
            if let Some(status) = answer.get() {
                return Ok(http::Response::builder()
                    .status(status)
                    .body(Vec::new())
                    .unwrap());
            }
            if Rc::strong_count(&answer) == 1 {
                return Err(HttpError::NoAnswer("the instance died".into()));
            }
        }
    }
}
