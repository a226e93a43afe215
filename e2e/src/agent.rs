//! An agent that asks to be notified when its tasks end.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::server::{Reply, Request, Server};
use crate::sign;

/// An endpoint that keeps the notifications it gets. Dropping it ends it.
pub struct Agent {
    server: Server,
    notifications: Arc<Mutex<Vec<Request>>>,
}

impl Agent {
    /// Starts an agent that refuses the first `refused` notifications with 500.
    pub async fn start(refused: usize) -> Self {
        let notifications: Arc<Mutex<Vec<Request>>> = Arc::default();
        let kept = notifications.clone();
        let server = Server::start(move |request| {
            let mut kept = kept.lock().unwrap();
            kept.push(request);
            let status = if kept.len() <= refused { 500 } else { 200 };
            async move { Reply::json(status, &json!({})) }
        })
        .await;
        Self {
            server,
            notifications,
        }
    }

    /// The address for its notifications.
    pub fn url(&self) -> String {
        format!("http://{}/notify", self.server.address)
    }

    /// Returns all notifications, in the order of their arrival.
    pub fn notifications(&self) -> Vec<Request> {
        self.notifications.lock().unwrap().clone()
    }
}

/// Returns whether a notification is signed with this secret, as Standard Webhooks demands.
pub fn is_signed(notification: &Request, secret: &str) -> bool {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let (id, at) = (
        notification.header("webhook-id"),
        notification.header("webhook-timestamp"),
    );
    let message = [format!("{id}.{at}.").as_bytes(), &notification.body].concat();
    let right = format!("v1,{}", STANDARD.encode(sign::code(&key, &message)));
    notification
        .header("webhook-signature")
        .split(' ')
        .any(|given| given == right)
}
