//! The callers with credentials: users with sessions of a real Better Auth, and agents with tokens; and a host that
//! knows both.

use bytes::Bytes;
use http::Method;
use loro::LoroDoc;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::better_auth::BetterAuth;
use crate::host::{Kind, Setup};
use crate::http::{Answer, Held, Http};
use crate::raw::{self, Client};
use crate::tasks::{TOKEN, WEBHOOK_KEY};

/// The setting `agent_token`.
pub const AGENT_TOKEN: &str = "a-trusted-backend-for-tests";

/// The set-up of a host whose users are in this Better Auth. Projects must be created before they are opened.
pub fn setup(relay: Kind, auth: &BetterAuth) -> Setup {
    Setup::new(relay)
        .variable("better_auth_origin", &auth.origin())
        .variable("internal_token", TOKEN)
        .variable("webhook_key", WEBHOOK_KEY)
        .variable("agent_token", AGENT_TOKEN)
        .variable("auto_create_projects", "false")
        .env("RELAY_RECHECK_INTERVAL", "1s")
}

/// A caller, as the headers that they send.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The headers of each request.
    pub headers: Vec<(String, String)>,
}

impl Caller {
    /// A caller without credentials.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A caller with these cookies.
    pub fn with_cookies(cookies: &str) -> Self {
        Self::anonymous().header("cookie", cookies)
    }

    /// A caller with this bearer token.
    pub fn with_token(token: &str) -> Self {
        Self::anonymous().header("authorization", &format!("Bearer {token}"))
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let pairs = self.headers.iter();
        pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// Sends any request.
    pub async fn send(
        &self,
        http: &Http,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let method: Method = method.parse().unwrap();
        http.send(method, path, &self.headers(), body.into()).await
    }

    /// Begins a request, and holds the last byte of its body back.
    pub async fn holds(&self, http: &Http, method: &str, path: &str, body: &[u8]) -> Held {
        http.hold(method, path, &self.headers(), body).await
    }

    /// Sends a GET.
    pub async fn get(&self, http: &Http, path: &str) -> Answer {
        self.send(http, "GET", path, "").await
    }

    /// Sends JSON, checks the status of the answer, and returns its JSON; null if it has none.
    pub async fn json(
        &self,
        http: &Http,
        method: &str,
        path: &str,
        body: Value,
        status: u16,
    ) -> Value {
        let answer = self.send(http, method, path, body.to_string()).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Creates a project.
    pub async fn creates(&self, http: &Http, project: &str) {
        let body = json!({ "project_id": project });
        self.json(http, "POST", "/projects", body, 201).await;
    }

    /// Gives a user a role in a project.
    pub async fn admits(&self, http: &Http, project: &str, user: &str, role: &str) {
        let path = format!("/projects/{project}/members/{user}");
        self.json(http, "PUT", &path, json!({ "role": role }), 200)
            .await;
    }

    /// Creates a token of a project, and returns the answer's JSON.
    pub async fn makes_token(&self, http: &Http, project: &str, role: &str) -> Value {
        let path = format!("/projects/{project}/tokens");
        let body = json!({ "name": "an agent", "role": role });
        self.json(http, "POST", &path, body, 201).await
    }

    /// Joins a room with events.
    pub async fn joins(&self, address: &str, project: &str) -> Client {
        let path = format!("/sync/{project}?events=1");
        Client::connect_with(address, &path, &self.headers(), LoroDoc::new()).await
    }

    /// Requests an upgrade, and returns the status, and the body if it is refused.
    pub async fn upgrade(&self, address: &str, path: &str) -> (u16, Value) {
        match raw::open_with(address, path, &self.headers()).await {
            Ok(_) => (101, Value::Null),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let body = serde_json::from_slice(body).unwrap_or_default();
                (response.status().as_u16(), body)
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }
}
