//! A service, the place of its results, and a bucket.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use auth::webhooks::WebhookKey;
use http::{Method, Request, Response};
use platform::{
    Clock, Config, Database, HttpClient, HttpError, Ports,
    http_client::{Limits, Pieces},
    migrations,
    native::{
        KillableDatabase, MapConfig, MemoryKeyValue, Published, SetClock, SqliteFile, block_on,
    },
};
use serde_json::{Value, json};
use tasks::{
    AssetStore, Callback, Context, Engine, Executor, Failure, Fields, Progress, Registry, Task,
    TaskRequest, rows,
};

pub(crate) const MIB: usize = 1024 * 1024;

/// A service that accepts every job, one at a time, and keeps results for 30 days.
struct Service;

#[async_trait(?Send)]
impl Executor for Service {
    fn service(&self) -> &'static str {
        "stub"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["stub"]
    }

    fn places(&self, _: &dyn Config) -> u32 {
        1
    }

    fn keeps_results(&self) -> Option<Duration> {
        Some(Duration::from_secs(30 * 24 * 3600))
    }

    fn check(&self, _: &str, _: &mut Fields<'_>) {}

    async fn submit(&self, task: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        Ok(Progress::Running {
            external_task_id: format!("job-{}", task.job()),
            look_again: None,
        })
    }

    async fn poll(&self, task: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        Ok(Progress::Running {
            external_task_id: format!("job-{}", task.job()),
            look_again: None,
        })
    }

    fn process_webhook(&self, _: &Value) -> Option<Callback> {
        None
    }
}

/// The parts by number, of uploads by path and name.
type Uploads = HashMap<(String, String), BTreeMap<u16, Vec<u8>>>;

/// The surroundings of an engine.
pub(crate) struct Shop {
    pub(crate) database: Rc<KillableDatabase>,
    clock: SetClock,
    key_value: MemoryKeyValue,
    pubsub: Published,
    config: MapConfig,
    sources: RefCell<HashMap<String, Vec<u8>>>,
    /// The addresses that redirect to others.
    hops: RefCell<HashMap<String, String>>,
    /// Says whether the place of results takes ranges.
    pub(crate) has_ranges: Cell<bool>,
    /// Says whether the place of results sends lengths.
    pub(crate) tells_length: Cell<bool>,
    /// The media type that is sent with a result; none if this is empty.
    pub(crate) media_type: RefCell<String>,
    /// The time that a piece of one MiB takes.
    pub(crate) seconds_a_piece: Cell<i64>,
    /// The objects of the bucket, by path.
    pub(crate) objects: RefCell<HashMap<String, Vec<u8>>>,
    /// The parts of uploads that are not complete, by path and name.
    pub(crate) uploads: RefCell<Uploads>,
    /// The length of the largest body that the bucket got.
    pub(crate) largest_body: Cell<usize>,
    /// The number of parts that the bucket got.
    pub(crate) parts_sent: Cell<usize>,
    /// Says whether the bucket finds an error after it has answered 200 to the end of an upload.
    pub(crate) fails_late: Cell<bool>,
    /// The number of times that the bucket still answers 403.
    pub(crate) broken_bucket: Cell<usize>,
}

impl Shop {
    pub(crate) fn without_bucket() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with_bucket() -> Self {
        Self::with_bucket_and(&[])
    }

    pub(crate) fn with_bucket_and(settings: &[(&str, &str)]) -> Self {
        let bucket = [
            ("s3_bucket", "results"),
            ("s3_endpoint", "https://s3.example"),
            ("s3_region", "auto"),
            ("s3_access_key", "access"),
            ("s3_secret_key", "secret"),
        ];
        Self::with(&[&bucket, settings].concat())
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let all = [settings, &[("public_url", "http://here")]].concat();
        let database = KillableDatabase::new(SqliteFile::open(":memory:".as_ref()).unwrap());
        let clock = SetClock::default();
        clock.0.set(1_700_000_000);
        block_on(migrations::apply(&database, &clock)).unwrap();
        Self {
            database: Rc::new(database),
            clock,
            key_value: MemoryKeyValue::default(),
            pubsub: Published::default(),
            config: MapConfig::from_pairs(&all),
            sources: RefCell::default(),
            hops: RefCell::default(),
            has_ranges: Cell::new(true),
            tells_length: Cell::new(true),
            media_type: RefCell::default(),
            seconds_a_piece: Cell::new(0),
            objects: RefCell::default(),
            uploads: RefCell::default(),
            largest_body: Cell::new(0),
            parts_sent: Cell::new(0),
            fails_late: Cell::new(false),
            broken_bucket: Cell::new(0),
        }
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            database: &*self.database,
            key_value: &self.key_value,
            pubsub: &self.pubsub,
            http: self,
            config: &self.config,
            clock: &self.clock,
        }
    }

    fn engine(&self) -> Engine<'_> {
        let ports = self.ports();
        Engine {
            ports,
            assets: AssetStore::open(ports.database, ports.http, ports.config).unwrap(),
            registry: Registry::of(vec![Rc::new(Service)]),
            key: WebhookKey::new("key"),
        }
    }

    /// Puts a film of this length at an address.
    pub(crate) fn source(&self, url: &str, length: usize) {
        let head = b"\0\0\0\x18ftypisom";
        let mut bytes: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
        let head = &head[..head.len().min(length)];
        bytes[..head.len()].copy_from_slice(head);
        self.sources.borrow_mut().insert(url.to_owned(), bytes);
    }

    /// Puts bytes at an address.
    pub(crate) fn place(&self, url: &str, bytes: &[u8]) {
        let mut sources = self.sources.borrow_mut();
        sources.insert(url.to_owned(), bytes.to_vec());
    }

    /// Lets an address redirect to another.
    pub(crate) fn send_on(&self, url: &str, next: &str) {
        let mut hops = self.hops.borrow_mut();
        hops.insert(url.to_owned(), next.to_owned());
    }

    pub(crate) fn bytes(&self, url: &str) -> Vec<u8> {
        self.sources.borrow()[url].clone()
    }

    /// Posts a task and hands it to the service.
    pub(crate) fn posted(&self) -> Task {
        let engine = self.engine();
        let body = json!({ "project_id": "p", "task_type": "stub", "params": {} }).to_string();
        let request = TaskRequest::read(body.as_bytes()).unwrap();
        let created = tasks::create(engine.ports, &engine.registry, &request, None);
        let task = block_on(created).unwrap();
        block_on(engine.tick());
        task
    }

    /// Calls back as the service does, with a result at this address.
    pub(crate) fn call_back(&self, task: &Task, url: &str) {
        let told = json!({ "task_id": task.job(), "status": "success", "result_url": url });
        let told = told.to_string();
        block_on(
            self.engine()
                .call_back("stub", &task.job(), told.as_bytes()),
        )
        .unwrap();
    }

    /// Does what follows the answer to the callback, or the part of a round that is about this task.
    pub(crate) fn keep(&self, task: &Task) {
        block_on(self.engine().keep_results(&task.job()));
    }

    pub(crate) fn tick(&self) {
        block_on(self.engine().tick());
    }

    pub(crate) fn cancel(&self, task: &Task) {
        let task = self.read(task).0;
        block_on(self.engine().cancel(&task)).unwrap();
    }

    pub(crate) fn wait(&self, seconds: i64) {
        self.clock.0.set(self.clock.0.get() + seconds);
    }

    /// Waits until a task is due, and returns for how long.
    pub(crate) fn wait_until_due(&self, task: &Task) -> i64 {
        let sql = format!(
            "SELECT next_attempt_at FROM aigc_tasks WHERE task_id = '{}'",
            task.task_id
        );
        let due = self.rows(&sql)[0].integer(0).unwrap();
        let wait = due - self.clock.unix_seconds();
        self.wait(wait);
        wait
    }

    fn rows(&self, sql: &str) -> Vec<platform::Row> {
        block_on(self.database.execute(sql, vec![])).unwrap()
    }

    pub(crate) fn count(&self, sql: &str) -> usize {
        self.rows(sql).len()
    }

    pub(crate) fn read(&self, task: &Task) -> (Task, Value) {
        let now = block_on(rows::get(&*self.database, &task.task_id)).unwrap();
        let data = block_on(rows::result_data(&*self.database, &task.task_id)).unwrap();
        let data = data.map_or(Value::Null, |data| serde_json::from_str(&data).unwrap());
        (now.unwrap(), data)
    }

    /// The content of an asset.
    pub(crate) fn asset(&self, path: &str) -> Vec<u8> {
        let id = path.rsplit('/').next().unwrap();
        block_on(self.engine().assets.read(id, None))
            .unwrap()
            .unwrap()
            .bytes
    }

    /// The address at which the bucket serves an asset.
    pub(crate) fn signed_address(&self, path: &str) -> Option<String> {
        let id = path.rsplit('/').next().unwrap();
        let assets = self.engine().assets;
        let asset = block_on(assets.describe(id)).unwrap().unwrap();
        assets.signed_address(id, &asset).unwrap()
    }

    /// The object of an asset in the bucket.
    pub(crate) fn object(&self, path: &str) -> Vec<u8> {
        let id = path.rsplit('/').next().unwrap();
        self.objects.borrow()[&format!("/results/{id}")].clone()
    }

    fn bucket(&self, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        let uri = request.uri().clone();
        let path = uri.path().to_owned();
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(uri.query().unwrap().as_bytes())
                .into_owned()
                .collect();
        assert_eq!(query["X-Amz-Signature"].len(), 64, "{uri}");
        assert!(path.starts_with("/results/asset_"), "{path}");
        let answer = |status: u16, body: &str| {
            Response::builder()
                .status(status)
                .body(body.as_bytes().to_vec())
                .unwrap()
        };
        if self.broken_bucket.get() > 0 {
            self.broken_bucket.set(self.broken_bucket.get() - 1);
            return answer(403, "");
        }
        self.largest_body
            .set(self.largest_body.get().max(request.body().len()));
        let name = query.get("uploadId").cloned();
        let mut uploads = self.uploads.borrow_mut();
        let mut objects = self.objects.borrow_mut();
        match (request.method().clone(), name) {
            (Method::POST, None) => {
                assert!(query.contains_key("uploads"), "{uri}");
                let name = format!("upload-{}", uploads.len());
                uploads.insert((path, name.clone()), BTreeMap::new());
                let words = format!(
                    "<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
                );
                answer(200, &words)
            }
            (Method::PUT, Some(name)) => {
                let number: u16 = query["partNumber"].parse().unwrap();
                let upload = uploads.get_mut(&(path, name)).unwrap();
                upload.insert(number, request.into_body());
                self.parts_sent.set(self.parts_sent.get() + 1);
                let mut answer = answer(200, "");
                let tag = format!("\"tag-{number}\"").parse().unwrap();
                answer.headers_mut().insert("etag", tag);
                answer
            }
            (Method::POST, Some(_)) if self.fails_late.get() => {
                answer(200, "<Error><Code>InternalError</Code></Error>")
            }
            (Method::POST, Some(name)) => {
                let Some(parts) = uploads.remove(&(path.clone(), name)) else {
                    return answer(404, "<Error><Code>NoSuchUpload</Code></Error>");
                };
                let told = String::from_utf8(request.into_body()).unwrap();
                assert_eq!(told.matches("<Part>").count(), parts.len(), "{told}");
                let last = parts.len() as u16;
                let is_whole =
                    |(number, part): (&u16, &Vec<u8>)| *number == last || part.len() >= 5 * MIB;
                assert!(parts.iter().all(is_whole));
                objects.insert(path, parts.into_values().flatten().collect());
                answer(200, "<CompleteMultipartUploadResult/>")
            }
            (Method::DELETE, Some(name)) => match uploads.remove(&(path, name)) {
                Some(_) => answer(204, ""),
                None => answer(404, ""),
            },
            (Method::PUT, None) => {
                objects.insert(path, request.into_body());
                answer(200, "")
            }
            (Method::DELETE, None) => {
                objects.remove(&path);
                answer(204, "")
            }
            (Method::HEAD, None) => match objects.get(&path) {
                Some(object) => Response::builder()
                    .header("content-length", object.len())
                    .body(vec![])
                    .unwrap(),
                None => answer(404, ""),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// A result in pieces of one MiB.
struct Film<'a> {
    shop: &'a Shop,
    left: Vec<u8>,
    most: usize,
}

#[async_trait(?Send)]
impl Pieces for Film<'_> {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        self.shop.wait(self.shop.seconds_a_piece.get());
        if self.left.is_empty() {
            return Ok(None);
        }
        let rest = self.left.split_off(self.left.len().min(MIB));
        let piece = std::mem::replace(&mut self.left, rest);
        self.most = self
            .most
            .checked_sub(piece.len())
            .ok_or(HttpError::TooLarge)?;
        Ok(Some(piece))
    }
}

#[async_trait(?Send)]
impl HttpClient for Shop {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: Limits,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        if request.uri().host() != Some("s3.example") {
            return Err(HttpError::NotSent("no server".into()));
        }
        Ok(self.bucket(request))
    }

    async fn open<'s>(
        &'s self,
        request: Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<Response<Box<dyn Pieces + 's>>, HttpError> {
        let url = request.uri().to_string();
        if let Some(next) = self.hops.borrow().get(&url) {
            let nothing = Film {
                shop: self,
                left: Vec::new(),
                most: 0,
            };
            let answer = Response::builder().status(302).header("location", next);
            return Ok(answer.body(Box::new(nothing) as Box<dyn Pieces>).unwrap());
        }
        let Some(bytes) = self.sources.borrow().get(&url).cloned() else {
            return Err(HttpError::NotSent("no server".into()));
        };
        let range = request
            .headers()
            .get("range")
            .map(|range| range.to_str().unwrap());
        let range = range.filter(|_| self.has_ranges.get());
        let from = range.map(|range| {
            let from = range
                .strip_prefix("bytes=")
                .unwrap()
                .strip_suffix('-')
                .unwrap();
            from.parse::<usize>().unwrap()
        });
        let left = bytes[from.unwrap_or(0)..].to_vec();
        let mut answer = Response::builder();
        if let Some(from) = from {
            let told = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            answer = answer.status(206).header("content-range", told);
        }
        if self.tells_length.get() {
            answer = answer.header("content-length", left.len());
        }
        if !self.media_type.borrow().is_empty() {
            answer = answer.header("content-type", &*self.media_type.borrow());
        }
        let most = limits.max_bytes;
        let film = Film {
            shop: self,
            left,
            most,
        };
        Ok(answer.body(Box::new(film) as Box<dyn Pieces>).unwrap())
    }
}
