//! A reverse proxy that passes requests below a path on to the root of a server.

use std::sync::{Arc, Mutex};

use http::{Method, Response};
use http_body_util::Full;

use crate::http::Http;
use crate::server::{Reply, Request, Server};

/// A proxy for plain requests. Dropping it ends it.
pub struct SubPath {
    /// The address.
    pub address: String,
    state: Arc<State>,
    _server: Server,
}

struct State {
    path: String,
    server: Mutex<String>,
    paths: Mutex<Vec<String>>,
}

impl SubPath {
    /// Starts a proxy for requests below `path`, such as `/canvas`. It leads nowhere until [`SubPath::leads_to`].
    pub async fn start(path: &str) -> Self {
        let state = Arc::new(State {
            path: path.to_owned(),
            server: Mutex::default(),
            paths: Mutex::default(),
        });
        let shared = state.clone();
        let server = Server::start(move |request| {
            let state = shared.clone();
            async move { state.pass_on(request).await }
        })
        .await;
        Self {
            address: server.address.clone(),
            state,
            _server: server,
        }
    }

    /// Sets the address of the server behind it.
    pub fn leads_to(&self, server: &str) {
        server.clone_into(&mut self.state.server.lock().unwrap());
    }

    /// The paths of all requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.state.paths.lock().unwrap().clone()
    }
}

impl State {
    async fn pass_on(&self, request: Request) -> Reply {
        self.paths.lock().unwrap().push(request.path.clone());
        let below = request.target.strip_prefix(&self.path);
        let Some(target) = below.filter(|target| target.starts_with('/')) else {
            return Reply::bytes(404, "text/html", "nothing here");
        };
        let server = self.server.lock().unwrap().clone();
        // The header `host` stays the client's, because proxies are usually configured to pass it on.
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .filter(|(name, _)| !["content-length", "connection"].contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let method: Method = request.method.clone();
        let http = Http::new(&server);
        match http
            .try_send(method, target, &headers, request.body.clone())
            .await
        {
            Ok(answer) => {
                let mut response = Response::builder().status(answer.status);
                for name in ["content-type", "etag", "location"] {
                    response = response.header(name, answer.header(name));
                }
                Reply::Answer(response.body(Full::new(answer.body)).unwrap())
            }
            Err(_) => Reply::Drop,
        }
    }
}
