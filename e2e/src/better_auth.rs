//! A real Better Auth server for one test (`better-auth/`), and the browsers of its users.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::built::package;
use crate::http::{Answer, Http};
use crate::process::Process;

const BASE_PATH: &str = "/api/better-auth";
const PASSWORD: &str = "a long password";

/// The options of a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The prefix of its cookies' names.
    pub prefix: Option<String>,
    /// Says whether its cookies are those of https, with names that begin with `__Secure-`.
    pub secure: bool,
    /// Says whether the cookies hold a copy of the session, which is valid by itself for five minutes.
    pub cookie_cache: bool,
    /// Says whether users have so much data that this copy takes several cookies.
    pub large: bool,
    /// The greatest number of requests for sessions from one address in 10 s.
    pub limit: Option<u32>,
}

/// A server. Dropping it kills it.
pub struct BetterAuth {
    address: String,
    _process: Process,
    _folder: TempDir,
}

/// A browser in which a user is signed in.
#[derive(Debug, Clone)]
pub struct Browser {
    /// The value of its header `Cookie`.
    pub cookies: String,
    /// The user's id.
    pub user_id: String,
}

impl BetterAuth {
    /// Starts a server on a free port.
    pub async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("node");
        command
            .current_dir(package().join("better-auth"))
            .arg("server.js");
        for (flag, wanted) in [
            ("--secure", options.secure),
            ("--cookie-cache", options.cookie_cache),
            ("--large", options.large),
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        if let Some(limit) = options.limit {
            command.args(["--limit", &limit.to_string()]);
        }
        if let Some(prefix) = &options.prefix {
            command.args(["--prefix", prefix]);
        }
        let log = folder.path().join("better-auth.log");
        let mut process = Process::spawn("better-auth", &mut command, &log);
        Self {
            address: process.ready().await,
            _process: process,
            _folder: folder,
        }
    }

    /// The origin of its address.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Signs a new user up, which also signs them in.
    pub async fn sign_up(&self, name: &str) -> Browser {
        let body = json!({ "name": name, "email": email(name), "password": PASSWORD });
        browser(&self.post("/sign-up/email", "", &body).await)
    }

    /// Signs a user in again, with another browser.
    pub async fn sign_in(&self, name: &str) -> Browser {
        let body = json!({ "email": email(name), "password": PASSWORD });
        browser(&self.post("/sign-in/email", "", &body).await)
    }

    /// Signs a user out. The browser keeps its cookies, which are no longer valid.
    pub async fn sign_out(&self, browser: &Browser) {
        let answer = self.post("/sign-out", &browser.cookies, &json!({})).await;
        assert_eq!(answer.json()["success"], true);
    }

    /// Sets how it answers `get-session` from now on: `none`, `error`, `garbage` or `hang`.
    pub async fn fault(&self, mode: &str) {
        let body = json!({ "mode": mode }).to_string();
        let http = Http::new(&self.address);
        let answer = http.post("/control/fault", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Delays each answer to `get-session` by this number of seconds from now on.
    pub async fn slow(&self, seconds: f64) {
        let body = json!({ "mode": "slow", "seconds": seconds }).to_string();
        let answer = Http::new(&self.address).post("/control/fault", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The number of requests for `get-session`.
    pub async fn asked(&self) -> u64 {
        let answer = Http::new(&self.address).get("/control/asked").await;
        answer.json()["count"].as_u64().unwrap()
    }

    async fn post(&self, path: &str, cookies: &str, body: &Value) -> Answer {
        let origin = self.origin();
        let mut headers = vec![
            ("content-type", "application/json"),
            ("origin", origin.as_str()),
        ];
        if !cookies.is_empty() {
            headers.push(("cookie", cookies));
        }
        let path = format!("{BASE_PATH}{path}");
        let body = Bytes::from(body.to_string());
        let answer = Http::new(&self.address)
            .send(Method::POST, &path, &headers, body)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }
}

fn email(name: &str) -> String {
    format!("{name}@example.com")
}

/// Keeps the cookies of an answer, as a browser does.
fn browser(answer: &Answer) -> Browser {
    let cookies: Vec<&str> = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .filter_map(|cookie| cookie.to_str().ok())
        .filter(|cookie| !cookie.contains("Max-Age=0;"))
        .filter_map(|cookie| cookie.split(';').next())
        .collect();
    Browser {
        cookies: cookies.join("; "),
        user_id: answer.json()["user"]["id"].as_str().unwrap().to_owned(),
    }
}
