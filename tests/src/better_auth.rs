//! A real Better Auth server of a test's own (tests/better-auth), and the browsers of its users.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::built::root;
use crate::http::{Answer, Http};
use crate::process::Process;

const BASE_PATH: &str = "/api/better-auth";
const PASSWORD: &str = "a long password";

/// How a server is to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The beginning of its cookies' names.
    pub prefix: Option<String>,
    /// Cookies as over https: their names begin with `__Secure-`.
    pub secure: bool,
    /// A copy of the session in the cookies, valid by itself for five minutes.
    pub cookie_cache: bool,
    /// Users with so much to them that this copy takes several cookies.
    pub large: bool,
}

/// A server. Dropping it kills it.
pub struct BetterAuth {
    address: String,
    _process: Process,
    _folder: TempDir,
}

/// What a user's browser has.
#[derive(Debug, Clone)]
pub struct Browser {
    /// The whole header `Cookie`.
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
            .current_dir(root().join("tests/better-auth"))
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

    /// Its origin.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new user signs up, and so in.
    pub async fn sign_up(&self, name: &str) -> Browser {
        let body = json!({ "name": name, "email": email(name), "password": PASSWORD });
        browser(&self.post("/sign-up/email", "", &body).await)
    }

    /// A user signs in again, with another browser.
    pub async fn sign_in(&self, name: &str) -> Browser {
        let body = json!({ "email": email(name), "password": PASSWORD });
        browser(&self.post("/sign-in/email", "", &body).await)
    }

    /// A user signs out. The browser's cookies are of no more use, though this one keeps them.
    pub async fn sign_out(&self, browser: &Browser) {
        let answer = self.post("/sign-out", &browser.cookies, &json!({})).await;
        assert_eq!(answer.json()["success"], true);
    }

    /// How it answers to `get-session` from now on: `none`, `error`, `garbage` or `hang`.
    pub async fn fault(&self, mode: &str) {
        let body = json!({ "mode": mode }).to_string();
        let http = Http::new(&self.address);
        let answer = http.post("/control/fault", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// How often `get-session` was asked for.
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

/// As a browser keeps what it is sent.
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
