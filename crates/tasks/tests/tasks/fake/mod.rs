//! A service over HTTP, for the tests of executors: it answers what the test wants, and remembers what it was asked.

pub(crate) mod kling;

use std::{cell::RefCell, collections::VecDeque};

use async_trait::async_trait;
use http::{Request, Response};
use platform::{
    HttpClient, HttpError, Ports,
    http_client::Limits,
    native::{MapConfig, World, block_on},
};
use serde_json::{Map, Value};
use tasks::{AssetStore, Context, Executor, FieldError, Fields, Registry};

/// A picture of one pixel.
pub(crate) const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A request that a service got.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// The method and the address.
    pub(crate) call: String,
    /// The key or the token that came with it.
    pub(crate) key: String,
    pub(crate) body: Value,
}

/// Finds the answer to a call.
type Answers = Box<dyn FnMut(&Asked) -> (u16, Value)>;

/// A service whose host begins with its name.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) world: World,
    answers: RefCell<Answers>,
    asked: RefCell<Vec<Asked>>,
}

impl Service {
    /// A service with these answers, in order.
    pub(crate) fn new(
        name: &'static str,
        settings: &[(&str, &str)],
        answers: impl IntoIterator<Item = (u16, Value)>,
    ) -> Self {
        let mut answers: VecDeque<(u16, Value)> = answers.into_iter().collect();
        Self::answering(name, settings, move |_| answers.pop_front().unwrap())
    }

    pub(crate) fn answering(
        name: &'static str,
        settings: &[(&str, &str)],
        answers: impl FnMut(&Asked) -> (u16, Value) + 'static,
    ) -> Self {
        Self {
            name,
            world: World::new(MapConfig::from_pairs(settings)),
            answers: RefCell::new(Box::new(answers)),
            asked: RefCell::default(),
        }
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            http: self,
            ..self.world.ports()
        }
    }

    /// Calls `what` with the executor and its context.
    pub(crate) fn with<T>(&self, what: impl AsyncFnOnce(&dyn Executor, &Context<'_>) -> T) -> T {
        let ports = self.ports();
        let registry = Registry::standard(ports.config);
        let assets = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
        let callback_url = format!("https://here.example/webhooks/{}", self.name);
        let context = Context {
            http: ports.http,
            config: ports.config,
            clock: ports.clock,
            key_value: ports.key_value,
            assets: &assets,
            callback_url: &callback_url,
            earlier: None,
        };
        block_on(what(registry.service(self.name).unwrap(), &context))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// The method and the path of each call.
    pub(crate) fn calls(&self) -> Vec<String> {
        let host = format!("https://{}.example", self.name);
        let asked = self.asked.borrow();
        asked
            .iter()
            .map(|one| one.call.replace(&host, ""))
            .collect()
    }
}

#[async_trait(?Send)]
impl HttpClient for Service {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: Limits,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        let host = format!("{}.example", self.name);
        if request.uri().host() != Some(&host) {
            return Err(HttpError::NotSent("the app cannot ask itself".into()));
        }
        let key = ["authorization", "x-goog-api-key"]
            .iter()
            .find_map(|name| request.headers().get(*name));
        let asked = Asked {
            call: format!("{} {}", request.method(), request.uri()),
            key: key.map_or("", |key| key.to_str().unwrap()).to_owned(),
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
        };
        let (status, body) = (*self.answers.borrow_mut())(&asked);
        self.asked.borrow_mut().push(asked);
        let answer = Response::builder()
            .status(status)
            .header("date", "Tue, 14 Nov 2023 22:15:20 GMT");
        Ok(answer.body(body.to_string().into_bytes()).unwrap())
    }
}

/// The fields of these parameters that a service refuses.
pub(crate) fn wrong_fields(task_type: &str, params: &Value) -> Vec<String> {
    wrong_fields_with(&[], task_type, params)
}

/// The fields of these parameters that a service with these settings refuses.
pub(crate) fn wrong_fields_with(
    settings: &[(&str, &str)],
    task_type: &str,
    params: &Value,
) -> Vec<String> {
    let errors = errors_with(settings, task_type, params);
    errors.into_iter().map(|one| one.field).collect()
}

/// Returns what a service with these settings says of parameters that it refuses.
pub(crate) fn errors_with(
    settings: &[(&str, &str)],
    task_type: &str,
    params: &Value,
) -> Vec<FieldError> {
    let values: Map<String, Value> = params.as_object().unwrap().clone();
    let registry = Registry::standard(&MapConfig::from_pairs(settings));
    let executor = registry.for_type(task_type).unwrap();
    let mut read = Fields::new(&values, "params.");
    executor.check(task_type, &mut read);
    read.finish()
}
