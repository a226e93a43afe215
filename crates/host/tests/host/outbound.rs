//! The hosts that guests may and may not call.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use crate::support::{PATIENCE, TestHost, manifest, until};

/// A server that answers every request `200 here`, once a connection.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            if stream.read(&mut request).await.is_ok() {
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhere";
                stream.write_all(answer).await.ok();
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_hosts_are_called() {
    let server = server().await;
    let port = server.port();
    let host = TestHost::start(&format!(
        "allowed_outbound_hosts = [\"http://127.0.0.1:{port}\"]"
    ))
    .await;
    assert_eq!(
        host.get(&format!("/g/get/http:/127.0.0.1:{port}/"))
            .await
            .ok(),
        "200 here"
    );
    for denied in [
        format!("http:/127.0.0.2:{port}/"),
        format!("http:/localhost:{port}/"),
        format!("https:/127.0.0.1:{port}/"),
        "http:/127.0.0.1/".to_owned(),
        "http:/self.alt/g/echo".to_owned(),
    ] {
        let error = host.get(&format!("/g/get/{denied}")).await.error();
        assert!(error.contains("HttpRequestDenied"), "{denied}: {error}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wildcard_allows_a_component_by_its_name() {
    let host = TestHost::start("allowed_outbound_hosts = [\"*://*:*\"]").await;
    let error = host.get("/g/get/http:/g.spin.internal/echo").await.error();
    assert!(error.contains("HttpRequestDenied"), "{error}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_come_from_a_variable() {
    let server = server().await;
    let extra = "allowed_outbound_hosts = [\"{{ upstream }}\"]";
    let host = TestHost::with(&manifest(extra, ""), |settings| {
        settings.variables = vec![("upstream".into(), format!("http://{server}"))];
    })
    .await;
    assert_eq!(
        host.get(&format!("/g/get/http:/{server}/")).await.ok(),
        "200 here"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_calls_itself() {
    let host = TestHost::start("allowed_outbound_hosts = [\"http://self\"]").await;
    let text = host.get("/g/get/http:/self.alt/g/echo/x").await.ok();
    assert!(
        text.starts_with("200 ") && text.contains("spin-path-info: /echo/x"),
        "{text}"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_networks_are_not_reached_by_any_name() {
    let server = server().await;
    let port = server.port();
    let extra = "allowed_outbound_hosts = [\"*://*:*\", \"http://self\"]";
    let calls = async |variables: &[(&str, &str)], config: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runtime.toml");
        let host = TestHost::with(&manifest(extra, ""), |settings| {
            settings.variables = variables
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect();
            settings.runtime_config = config.map(|text| {
                std::fs::write(&path, text).unwrap();
                path.clone()
            });
        })
        .await;
        let literal = host
            .get(&format!("/g/get/http:/127.0.0.1:{port}/"))
            .await
            .text();
        let name = host
            .get(&format!("/g/get/http:/localhost:{port}/"))
            .await
            .text();
        // The guest still reaches its own application.
        assert!(
            host.get("/g/get/http:/self.alt/g/nothing")
                .await
                .ok()
                .starts_with("200")
        );
        host.stop().await;
        (literal, name)
    };
    let blocked = |(literal, name): (String, String)| {
        literal.contains("DestinationIpProhibited") && name.contains("DestinationIpProhibited")
    };
    let open = |(literal, name): (String, String)| literal == "200 here" && name == "200 here";
    let production = [("environment", "production")];
    assert!(open(calls(&[], None).await), "development blocks nothing");
    assert!(
        blocked(calls(&production, None).await),
        "production blocks what is private"
    );
    assert!(blocked(
        calls(
            &[],
            Some("[outbound_networking]\nblock_networks = [\"private\"]")
        )
        .await
    ));
    assert!(blocked(
        calls(
            &[],
            Some("[outbound_networking]\nblock_networks = [\"127.0.0.0/8\", \"::1\"]")
        )
        .await
    ));
    assert!(
        open(
            calls(
                &production,
                Some("[outbound_networking]\nblock_networks = []")
            )
            .await
        ),
        "the file decides"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_called_if_it_is_allowed() {
    let host = TestHost::start("allowed_outbound_hosts = [\"{{ redis_url }}\"]\nvariables = { redis_url = \"{{ redis_url }}\" }").await;
    assert_eq!(host.post("/g/publish/c", "x").await.ok(), "published");
    let denied = host.post("/g/redis", "redis://127.0.0.1:1").await.error();
    assert!(denied.contains("InvalidAddress"), "{denied}");
    host.stop().await;

    // The operator's own server is exempt from the blocked networks; another one is not.
    let extra = "allowed_outbound_hosts = [\"redis://*:*\"]\nvariables = { redis_url = \"{{ redis_url }}\" }";
    let host = TestHost::with(&manifest(extra, ""), |settings| {
        settings.variables = vec![("environment".into(), "production".into())];
    })
    .await;
    assert_eq!(host.post("/g/publish/c", "x").await.ok(), "published");
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://{}", other.local_addr().unwrap());
    let blocked = host.post("/g/redis", address).await.error();
    assert!(blocked.contains("blocked network"), "{blocked}");
    host.stop().await;
}

/// A real Redis server; killed with the test. It listens on a file, because it cannot let the system pick its port, and
/// the test passes the bytes of a port on to it.
struct Redis {
    server: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed");
        let redis = Self {
            server,
            address: listener.local_addr().unwrap(),
            _folder: folder,
        };
        until("redis-server starts", async || {
            UnixStream::connect(&socket).await.is_ok()
        })
        .await;
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(async move {
                    // Either side may close it at any time.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_and_the_trigger_work_against_a_real_server() {
    let redis = Redis::start().await;
    let extra = "allowed_outbound_hosts = [\"{{ redis_url }}\"]\nkey_value_stores = [\"default\"]\nvariables = { redis_url = \"{{ redis_url }}\" }";
    let more = "[[trigger.redis]]\nchannel = \"c\"\ncomponent = \"g\"";
    let host = TestHost::with(&manifest(extra, more), |settings| {
        settings.redis = Some(redis.url())
    })
    .await;
    // The trigger may still be on its way to the server, so this publishes until the message comes.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        host.post("/g/publish/c", "over a real server").await.ok();
        let heard = host.get("/g/kv/default/get/redis").await;
        if heard.status == 200 && heard.text().contains("over a real server") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "no message came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifest_names_is_reached_though_it_is_private() {
    let server = server().await;
    let port = server.port();
    let extra = format!("allowed_outbound_hosts = [\"*://*:*\", \"http://127.0.0.1:{port}\"]");
    for (config, reached) in [
        (None, true),
        // A network that the operator blocks is blocked for named hosts, too, as on Spin.
        (
            Some("[outbound_networking]\nblock_networks = [\"private\"]"),
            false,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runtime.toml");
        let host = TestHost::with(&manifest(&extra, ""), |settings| {
            settings.variables = vec![("environment".into(), "production".into())];
            settings.runtime_config = config.map(|text| {
                std::fs::write(&path, text).unwrap();
                path.clone()
            });
        })
        .await;
        let call = async |host_name: &str| {
            let path = format!("/g/get/http:/{host_name}:{port}/");
            host.get(&path).await.text()
        };
        assert_eq!(call("127.0.0.1").await == "200 here", reached, "{config:?}");
        // Another name of the same address is not in the manifest.
        assert!(call("localhost").await.contains("DestinationIpProhibited"));
        host.stop().await;
    }
}
