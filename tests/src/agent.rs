//! An agent that wants to be told when its tasks are finished.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::server::{Reply, Request, Server};
use crate::sign;

/// An endpoint that keeps what it is told. Dropping it ends it.
pub struct Agent {
    server: Server,
    told: Arc<Mutex<Vec<Request>>>,
}

impl Agent {
    /// An agent that refuses the first `refused` notifications with 500.
    pub async fn start(refused: usize) -> Self {
        let told: Arc<Mutex<Vec<Request>>> = Arc::default();
        let kept = told.clone();
        let server = Server::start(move |request| {
            let mut told = kept.lock().unwrap();
            told.push(request);
            let status = if told.len() <= refused { 500 } else { 200 };
            async move { Reply::json(status, &json!({})) }
        })
        .await;
        Self { server, told }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}/told", self.server.address)
    }

    /// Everything it was told, in order.
    pub fn told(&self) -> Vec<Request> {
        self.told.lock().unwrap().clone()
    }
}

/// Whether a notification is signed with this secret, as Standard Webhooks says.
pub fn is_signed(told: &Request, secret: &str) -> bool {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let (id, at) = (told.header("webhook-id"), told.header("webhook-timestamp"));
    let message = [format!("{id}.{at}.").as_bytes(), &told.body].concat();
    let right = format!("v1,{}", STANDARD.encode(sign::code(&key, &message)));
    told.header("webhook-signature")
        .split(' ')
        .any(|given| given == right)
}
