//! People with sessions of a real Better Auth, agents with tokens, and a host that knows them.

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

/// How to start a host whose users this Better Auth knows. Projects must be made before they are opened.
pub fn setup(relay: Kind, auth: &BetterAuth) -> Setup {
    Setup::new(relay)
        .variable("better_auth_origin", &auth.origin())
        .variable("internal_token", TOKEN)
        .variable("webhook_key", WEBHOOK_KEY)
        .variable("agent_token", AGENT_TOKEN)
        .variable("auto_create_projects", "false")
        .env("RELAY_RECHECK_INTERVAL", "1s")
}

/// Somebody, by what they send along.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The headers.
    pub headers: Vec<(String, String)>,
}

impl Caller {
    /// Nobody.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Whose cookies these are.
    pub fn with_cookies(cookies: &str) -> Self {
        Self::nobody().header("cookie", cookies)
    }

    /// Whose token this is.
    pub fn with_token(token: &str) -> Self {
        Self::nobody().header("authorization", &format!("Bearer {token}"))
    }

    /// The same with a header more.
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

    /// Begins a request, whose body lacks its last byte.
    pub async fn holds(&self, http: &Http, method: &str, path: &str, body: &[u8]) -> Held {
        http.hold(method, path, &self.headers(), body).await
    }

    /// GET.
    pub async fn get(&self, http: &Http, path: &str) -> Answer {
        self.send(http, "GET", path, "").await
    }

    /// Sends JSON, which must be answered with this status, and gives the answer's JSON.
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

    /// Makes a project.
    pub async fn creates(&self, http: &Http, project: &str) {
        let body = json!({ "project_id": project });
        self.json(http, "POST", "/projects", body, 201).await;
    }

    /// Gives somebody a role in a project.
    pub async fn admits(&self, http: &Http, project: &str, user: &str, role: &str) {
        let path = format!("/projects/{project}/members/{user}");
        self.json(http, "PUT", &path, json!({ "role": role }), 200)
            .await;
    }

    /// Makes a token of a project: what the answer says of it.
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

    /// The status that an upgrade is answered with, and the body where it is refused.
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
