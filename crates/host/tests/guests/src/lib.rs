//! The component for all of the host's tests. Over HTTP, the path says what it does. Redis messages and cron events go
//! to the key-value store, where the HTTP side shows them.

use std::fs;

use anyhow::{Context, Result, anyhow};
use futures_util::SinkExt;
use spin_sdk::http::{
    Headers, IncomingRequest, Method, OutgoingResponse, Request, Response, ResponseOutparam,
};
use spin_sdk::key_value::Store;
use spin_sdk::sqlite::{Connection, Value};
use spin_sdk::{http_component, redis_component, variables};

#[http_component]
async fn http(request: IncomingRequest, out: ResponseOutparam) {
    let method = request.method();
    let headers = request.headers().entries();
    let path = headers
        .iter()
        .find(|(name, _)| name == "spin-path-info")
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default();
    let body = request.into_body().await.unwrap_or_default();
    let path = path.split_once('?').map_or(path.as_str(), |(path, _)| path);
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();

    if parts == ["later"] {
        // The whole answer comes first, and the work after it.
        let response = OutgoingResponse::new(Headers::new());
        let mut stream = response.take_body();
        out.set(response);
        // The client may have hung up already.
        stream.send(b"accepted".to_vec()).await.ok();
        drop(stream);
        work_on(&body).await.expect("the work after the answer");
        return;
    }
    if let ["burns", parts @ ..] = &parts[..] {
        return burn(parts, out).await;
    }
    let (status, text) = match answer(&method, &headers, &parts, &body).await {
        Ok(text) => (200, text),
        Err(error) => (502, format!("{error:#}").into_bytes()),
    };
    let headers = Headers::new();
    headers.append("content-type", b"text/plain".as_ref()).ok();
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).ok();
    out.set_with_body(response, text).await.ok();
}

/// Answers in parts. The first number in `parts` is their count, and the second is the milliseconds of computing before
/// each.
async fn burn(parts: &[&str], out: ResponseOutparam) {
    let numbers: Vec<u64> = parts.iter().flat_map(|part| part.parse()).collect();
    let [count, ms] = numbers[..] else {
        panic!("no such test: {parts:?}");
    };
    let response = OutgoingResponse::new(Headers::new());
    let mut stream = response.take_body();
    out.set(response);
    for _ in 0..count {
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(ms) {
            std::hint::black_box(0);
        }
        stream.send(b"burnt\n".to_vec()).await.ok();
    }
}

/// Sends the app itself a few requests, and then notes under `key` that it is done.
async fn work_on(key: &[u8]) -> Result<()> {
    for _ in 0..3 {
        let request = Request::get("http://self.alt/g/sleep/50").build();
        let _: Response = spin_sdk::http::send(request).await?;
    }
    Store::open_default()?.set(&String::from_utf8_lossy(key), b"done")?;
    Ok(())
}

async fn answer(
    method: &Method,
    headers: &[(String, Vec<u8>)],
    parts: &[&str],
    body: &[u8],
) -> Result<Vec<u8>> {
    let text = || String::from_utf8_lossy(body).into_owned();
    Ok(match parts {
        ["nothing"] => Vec::new(),
        ["echo", ..] => {
            let mut lines = vec![format!("method: {method}")];
            lines.extend(
                headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))),
            );
            lines.push(format!("body: {} bytes", body.len()));
            lines.join("\n").into_bytes()
        }
        ["bytes", count] => vec![b'x'; count.parse()?],
        ["trap"] => panic!("as asked"),
        ["loop"] => loop {
            std::hint::black_box(0);
        },
        ["hog"] => {
            let mut hog = Vec::new();
            loop {
                hog.push(vec![1u8; 1 << 20]);
                std::hint::black_box(&hog);
            }
        }
        ["sleep", ms] => {
            std::thread::sleep(std::time::Duration::from_millis(ms.parse()?));
            b"slept".to_vec()
        }
        ["variable", name] => variables::get(name)?.into_bytes(),
        ["env"] => {
            let mut all: Vec<String> = std::env::vars()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            all.sort();
            all.join("\n").into_bytes()
        }
        ["file", ..] => fs::read(format!("/{}", parts[1..].join("/")))?,
        ["write", ..] => {
            fs::write(format!("/{}", parts[1..].join("/")), body)?;
            b"written".to_vec()
        }
        ["sqlite", name] => {
            // One statement a line; the answer is the rows of the last one.
            let connection = Connection::open(name).map_err(|e| anyhow!("{e:?}"))?;
            let mut answer = String::new();
            for statement in text().lines() {
                let result = connection
                    .execute(statement, &[])
                    .map_err(|e| anyhow!("{e:?}"))?;
                answer = result
                    .rows
                    .iter()
                    .map(|row| format!("{:?}", row.values))
                    .collect::<Vec<_>>()
                    .join("\n");
            }
            answer.into_bytes()
        }
        ["values"] => {
            let connection = Connection::open("default").map_err(|e| anyhow!("{e:?}"))?;
            let given = [
                Value::Integer(-7),
                Value::Real(1.5),
                Value::Text("ü".into()),
                Value::Blob(vec![0, 255]),
                Value::Null,
            ];
            let result = connection
                .execute("SELECT ?1 AS a, ?2 AS b, ?3 AS c, ?4 AS d, ?5 AS e", &given)
                .map_err(|e| anyhow!("{e:?}"))?;
            format!("{:?} {:?}", result.columns, result.rows[0].values).into_bytes()
        }
        ["kv", store, rest @ ..] => key_value(store, rest, body)?,
        ["get", ..] => {
            let uri = parts[1..].join("/").replacen(":/", "://", 1);
            let request = Request::get(uri).build();
            let response: Response = spin_sdk::http::send(request)
                .await
                .map_err(|e| anyhow!("{e:?}"))?;
            format!(
                "{} {}",
                response.status(),
                String::from_utf8_lossy(response.body())
            )
            .into_bytes()
        }
        ["publish", channel] => {
            let address = variables::get("redis_url")?;
            let connection =
                spin_sdk::redis::Connection::open(&address).map_err(|e| anyhow!("{e:?}"))?;
            connection
                .publish(channel, body)
                .map_err(|e| anyhow!("{e:?}"))?;
            b"published".to_vec()
        }
        ["redis"] => {
            spin_sdk::redis::Connection::open(&text()).map_err(|e| anyhow!("{e:?}"))?;
            b"opened".to_vec()
        }
        _ => return Err(anyhow!("no such test: {parts:?}")),
    })
}

fn key_value(store: &str, rest: &[&str], body: &[u8]) -> Result<Vec<u8>> {
    let store = Store::open(store).map_err(|e| anyhow!("{e:?}"))?;
    Ok(match rest {
        ["get", key] => store.get(key)?.context("there is no such key")?,
        ["set", key] => {
            store.set(key, body)?;
            Vec::new()
        }
        ["delete", key] => {
            store.delete(key)?;
            Vec::new()
        }
        _ => return Err(anyhow!("no such test: {rest:?}")),
    })
}

/// Notes the message under the key `redis`, after the ones before it.
#[redis_component]
fn redis(message: bytes::Bytes) -> Result<()> {
    if message.as_ref() == b"trap" {
        panic!("as asked");
    }
    note("redis", &message)
}

fn note(key: &str, what: &[u8]) -> Result<()> {
    let store = Store::open_default()?;
    let mut all = store.get(key)?.unwrap_or_default();
    all.extend_from_slice(what);
    all.push(b'\n');
    store.set(key, &all)?;
    Ok(())
}

mod cron {
    spin_sdk::wit_bindgen::generate!({
        inline: r#"
            package fermyon:spin-cron@2.0.0;

            interface cron-types {
                record metadata { timestamp: u64 }
                variant error { other(string) }
            }

            world spin-cron {
                use cron-types.{error, metadata};
                export handle-cron-event: func(metadata: metadata) -> result<_, error>;
            }
        "#,
        runtime_path: "::spin_sdk::wit_bindgen::rt",
    });

    struct Cron;

    impl Guest for Cron {
        fn handle_cron_event(metadata: Metadata) -> Result<(), Error> {
            super::note("cron", metadata.timestamp.to_string().as_bytes())
                .map_err(|e| Error::Other(e.to_string()))
        }
    }

    export!(Cron);
}
