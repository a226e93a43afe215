//! A host for one test, and a client for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use loro_host::{Limits, RelayKind, Running, Settings, Triggers};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The longest that anything in a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for at most [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits for at most [`PATIENCE`] until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The file of a Wasm build. `cargo xtask test` builds it before the tests, because a test that builds one package alone
/// would compile its dependencies once more.
pub(crate) fn wasm(name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let file = target
        .join("wasm32-wasip2/wasm")
        .join(format!("{name}.wasm"));
    assert!(
        file.exists(),
        "{} is not built: run `cargo xtask test`",
        file.display()
    );
    file
}

/// The tests' component.
pub(crate) fn guests() -> &'static Path {
    static GUESTS: OnceLock<PathBuf> = OnceLock::new();
    GUESTS.get_or_init(|| wasm("host_guests"))
}

/// The head of every manifest here, and component `g` at `/g/...`; `extra` lines go into the component.
pub(crate) fn manifest(extra: &str, more: &str) -> String {
    let source = guests().display();
    format!(
        r#"
spin_manifest_version = 2
[application]
name = "test"
[application.trigger.redis]
address = "{{{{ redis_url }}}}"
[variables]
redis_url = {{ default = "redis://127.0.0.1:1" }}
environment = {{ default = "development" }}
internal_token = {{ default = "", secret = true }}
greeting = {{ default = "hello" }}
upstream = {{ default = "" }}
[[trigger.http]]
route = "/g/..."
component = "g"
[component.g]
source = "{source}"
{extra}
{more}
"#
    )
}

/// A host in this process with a folder of its own.
pub(crate) struct TestHost {
    host: Option<Running>,
    /// The folder of its manifest; the state is in `state` below it.
    pub(crate) folder: TempDir,
    /// The application's address.
    pub(crate) address: SocketAddr,
}

impl TestHost {
    /// Starts component `g` with `extra` lines.
    pub(crate) async fn start(extra: &str) -> Self {
        Self::with(&manifest(extra, ""), |_| {}).await
    }

    /// Starts a manifest with settings changed by `change`.
    pub(crate) async fn with(manifest: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), manifest, change);
        let host = loro_host::start(settings).await.unwrap();
        let address = host.app_address();
        Self {
            host: Some(host),
            folder,
            address,
        }
    }

    /// The public address.
    pub(crate) fn public(&self) -> SocketAddr {
        self.host.as_ref().unwrap().address().unwrap()
    }

    /// Stops it and returns its folder.
    pub(crate) async fn stop(mut self) -> TempDir {
        tokio::time::timeout(PATIENCE, self.host.take().unwrap().stop())
            .await
            .unwrap()
            .unwrap();
        self.folder
    }

    /// `GET`s a path.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        request(self.address, "GET", path, b"").await
    }

    /// `POST`s a body to a path.
    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        request(self.address, "POST", path, body.as_ref()).await
    }

    /// Waits until a key of the default store has a value for which `enough` holds.
    pub(crate) async fn wait_for_key(&self, key: &str, enough: impl Fn(&str) -> bool) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let reply = self.get(&format!("/g/kv/default/get/{key}")).await;
            if reply.status == 200 && enough(&reply.text()) {
                return reply.text();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{key} never came: {reply:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Makes settings for a test: the system picks every port, and the state and the manifest are in `folder`.
pub(crate) fn settings(
    folder: &Path,
    manifest: &str,
    change: impl FnOnce(&mut Settings),
) -> Settings {
    let path = folder.join("spin.toml");
    std::fs::write(&path, manifest).unwrap();
    let state_dir = folder.join("state");
    share_cache(&state_dir);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = Settings {
        manifest: path,
        listen: any,
        app_listen: any,
        state_dir,
        redis: None,
        relay: RelayKind::None,
        relay_wasm: PathBuf::new(),
        runtime_config: None,
        variables: Vec::new(),
        triggers: Triggers::default(),
        limits: Limits {
            instances: 32,
            ..Limits::default()
        },
    };
    change(&mut settings);
    settings
}

/// Links a state folder to the compiled code that all tests share.
pub(crate) fn share_cache(state: &Path) {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("host-cache");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::create_dir_all(state).unwrap();
    std::os::unix::fs::symlink(shared, state.join("cache")).unwrap();
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of an answer, which must be 200.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.text()
    }

    /// The text of an answer, which must be the guest's own error.
    pub(crate) fn error(self) -> String {
        assert_eq!(self.status, 502, "{self:?}");
        self.text()
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn request(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Reply {
    request_with(address, method, path, &[], body)
        .await
        .expect("the answer breaks off")
}

/// Sends one request with headers; `None` if the answer breaks off.
pub(crate) async fn request_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    let work = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "app.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        connection.abort();
        Some(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    };
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("no answer in time")
}
