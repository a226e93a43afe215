//! A relay and an app of neighbouring releases: the app of this release with a relay of the release before, and the other
//! way round, so that a rolling upgrade loses nothing, whatever its order.

use bytes::Bytes;
use e2e::host::{Host, Kind, Setup};
use e2e::http::{Answer, Http};
use e2e::raw::{Client, change, converged};
use e2e::relay::Relay;
use e2e::server::{Reply, Request, Server};
use http::Method;
use loro::LoroDoc;
use wire::{decode, encode};

#[path = "../../../crates/wire/tests/before/mod.rs"]
mod before;

const TOKEN: &str = "t";

/// Sends the app a request as a relay of the release before does, which does not name its version.
async fn ask(app: &Http, method: Method, target: &str, body: Vec<u8>) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", wire::CONTENT_TYPE),
    ];
    app.send(method, target, &headers, body.into()).await
}

async fn start() -> Host {
    Setup::new(Kind::Native)
        .variable("internal_token", TOKEN)
        .env("RELAY_HEADS_INTERVAL", "1s")
        .start()
        .await
}

/// Reads a state as that release does, into a document.
fn import(doc: &LoroDoc, answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let state: before::State = decode(&answer.body).unwrap();
    for blob in state.blobs {
        doc.import(&blob).unwrap();
    }
    state.rev
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_of_the_release_before_works_with_the_app() {
    let host = start().await;
    let app = host.app_http();
    let client = Client::join_with_events(&host.address, "p").await;
    client.typed("new").await;
    client.saved(1).await;

    // The relay checks the access of a client.
    let check = before::AccessCheck {
        project: "p".into(),
        cookie: None,
        authorization: None,
        token: None,
        origin: None,
        host: None,
        again: false,
        principal: None,
    };
    let checks = vec![check];
    let asked = encode(&before::AccessRequest { checks });
    let access = ask(&app, Method::POST, "/internal/access", asked).await;
    // The app's answer has the same form in both releases.
    let access: wire::AccessResponse = decode(&access.body).unwrap();
    let [wire::Verdict::Granted { write: true, .. }] = access.verdicts[..] else {
        panic!("{access:?}");
    };

    // The relay joins, and appends the same update twice, because it has lost the answer.
    let doc = LoroDoc::new();
    let read = "/internal/rooms/p/state";
    let rev = import(&doc, &ask(&app, Method::GET, read, Vec::new()).await);
    assert_eq!(doc.get_text("text").to_string(), client.text());
    let update = before::Update {
        project: "p".into(),
        payload: change(&doc, |doc| doc.get_text("text").insert(0, "old").unwrap()).into(),
    };
    let append = encode(&before::AppendRequest {
        origin: "relay-of-before".into(),
        updates: vec![update],
    });
    for _ in 0..2 {
        let answer = ask(&app, Method::POST, "/internal/append", append.clone()).await;
        let answer: before::AppendResponse = decode(&answer.body).unwrap();
        let [before::Outcome::Stored { rev: stored }] = answer.outcomes[..] else {
            panic!("{answer:?}");
        };
        assert!(stored > rev, "{stored} after {rev}");
    }

    // A client at a relay of this release sees the update, and the older relay gets what this client types by heads and
    // updates.
    client
        .until("the update", |client| client.text().contains("old"))
        .await;
    client.typed("newer").await;
    client.saved(2).await;
    let projects = vec!["p".into()];
    let heads = encode(&wire::HeadsRequest { projects });
    let heads = ask(&app, Method::POST, "/internal/heads", heads).await;
    let heads: before::Heads = decode(&heads.body).unwrap();
    let after = format!("/internal/rooms/p/updates?after={rev}");
    let head = import(&doc, &ask(&app, Method::GET, &after, Vec::new()).await);
    assert_eq!(heads.revs, [head]);
    assert_eq!(doc.get_deep_value(), client.doc().get_deep_value());
    client.assert_fine("with a relay of the release before");
    host.stop().await;
}

/// Answers as an app of the release before: it passes on only the fields of messages, and only the routes between relay
/// and app, that this release knows. The app behind it is of the current release.
async fn as_before(app: Http, request: Request) -> Reply {
    let Request {
        method,
        target,
        body,
        ..
    } = request;
    let path = target.split('?').next().unwrap_or_default();
    let is_state = path.ends_with("/state") && method == Method::GET || path.ends_with("/updates");
    let body = match path {
        "/internal/append" => encode(&decode::<before::AppendRequest>(&body).unwrap()),
        "/internal/access" => encode(&decode::<before::AccessRequest>(&body).unwrap()),
        "/internal/heads" | "/internal/sweep" | "/health" => body.to_vec(),
        _ if is_state || path.ends_with("/compact") || !path.starts_with("/internal/") => {
            body.to_vec()
        }
        _ => return Reply::bytes(404, "application/problem+json", "{}"),
    };
    let answer = ask(&app, method, &target, body).await;
    let body: Bytes = match path {
        _ if answer.status != 200 => answer.body.clone(),
        "/internal/append" => {
            encode(&decode::<before::AppendResponse>(&answer.body).unwrap()).into()
        }
        "/internal/heads" => encode(&decode::<before::Heads>(&answer.body).unwrap()).into(),
        _ if is_state => encode(&decode::<before::State>(&answer.body).unwrap()).into(),
        _ => answer.body.clone(),
    };
    Reply::bytes(answer.status.as_u16(), answer.header("content-type"), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_works_with_an_app_of_the_release_before() {
    let host = start().await;
    let app = host.app.clone();
    let older = Server::start(move |request| as_before(Http::new(&app), request)).await;
    let settings = [
        ("RELAY_INTERNAL_TOKEN", TOKEN),
        ("RELAY_HEADS_INTERVAL", "1s"),
    ];
    let relay = Relay::start(Kind::Native, &older.address, "", &settings).await;
    // The third client is at the host's own relay.
    let one = Client::join_with_events(&relay.address, "p").await;
    let two = Client::join_with_events(&relay.address, "p").await;
    let three = Client::join_with_events(&host.address, "p").await;
    for round in 1..=3 {
        for (client, words) in [(&one, "a"), (&two, "b"), (&three, "c")] {
            client.typed(words).await;
            client.saved(round).await;
        }
    }
    let all = [&one, &two, &three];
    for client in all {
        client
            .until("all that was typed", |client| client.text().len() == 9)
            .await;
    }
    converged("with an app of the release before", &all).await;
    // Every acknowledged edit is stored.
    let (stored, _) = host.app_http().document("p").await;
    assert_eq!(stored.get_deep_value(), one.doc().get_deep_value());
    relay.stop().await;
    host.stop().await;
}
