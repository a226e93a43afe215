//! Checks quotas: a full project refuses new updates and tasks with an error that gives the reason, and goes on with
//! everything else.

use e2e::elsewhere::max_body_mib;
use e2e::host::{Host, Kind, Setup};
use e2e::raw::{Client, change};
use e2e::wait::until;
use loro::LoroDoc;
use rand::Rng;
use serde_json::{Value, json};

/// An update that holds this many random letters. They are one value, because each reader would take half a minute to
/// merge a text of them with what others type at the same time.
fn large(letters: usize) -> Vec<u8> {
    let mut random = rand::rng();
    let text: String = (0..letters)
        .map(|_| char::from(random.random_range(b'!'..b'~')))
        .collect();
    change(&LoroDoc::new(), |doc| {
        doc.get_map("large").insert("letters", text).unwrap()
    })
}

/// Reads how much of its quota a project has used.
pub(crate) async fn usage(host: &Host, project: &str) -> Value {
    let answer = host.http().get(&format!("/projects/{project}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["usage"].clone()
}

/// Posts an update, and returns the status and the type of the problem.
async fn posted(host: &Host, project: &str, update: Vec<u8>) -> (u16, Value) {
    let answer = host.http().post(&format!("/sync/{project}"), update).await;
    let kind = if answer.status == 200 {
        Value::Null
    } else {
        answer.json()["type"].clone()
    };
    (answer.status.as_u16(), kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_beyond_its_quota() {
    let setup = Setup::new(Kind::Native).variable("project_quota_mib", "1");
    let host = setup.start().await;
    let one = Client::join(&host.address, "p").await;
    let calm = Client::join(&host.address, "q").await;
    one.typed("saved before").await;
    assert_eq!(posted(&host, "p", large(1_300_000)).await.0, 200);
    until("the project is full", async || {
        usage(&host, "p").await["full"] == "quota"
    })
    .await;
    let seen = usage(&host, "p").await;
    assert!(
        seen["bytes"].as_u64() > seen["bytes_allowed"].as_u64(),
        "{seen}"
    );
    assert_eq!(seen["nearly_full"], true);

    let refused = (507, json!("urn:loro-sync:problem:quota"));
    assert_eq!(posted(&host, "p", large(10)).await, refused);
    one.typed("too much").await;
    until("the sender gets the refusal", async || {
        !one.events("error").is_empty()
    })
    .await;
    let error = &one.events("error")[0];
    assert_eq!(
        (&error["code"], &error["frame"]),
        (&json!("quota"), &json!(2)),
        "{error}"
    );
    assert!(
        error["message"].as_str().unwrap().contains("MiB"),
        "{error}"
    );
    let task = json!({ "project_id": "p", "task_type": "demo", "params": { "prompt": "a hill" } });
    let answer = host.http().post("/tasks", task.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["type"].clone()),
        refused
    );

    // Everything else goes on.
    let late = Client::join(&host.address, "p").await;
    late.until("all that was saved", |late| {
        late.text() == "saved before" && !late.doc().get_map("large").is_empty()
    })
    .await;
    calm.typed("calm").await;
    assert_eq!(posted(&host, "q", large(10)).await.0, 200);

    // A larger quota takes effect as soon as the project is read.
    let setup = host.setup().variable("project_quota_mib", "4");
    host.stop().await;
    let host = setup.start().await;
    assert_eq!(usage(&host, "p").await["full"], Value::Null);
    assert_eq!(posted(&host, "p", large(10)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_the_largest_size() {
    let host = Host::start(Kind::Native).await;
    let largest = max_body_mib().map_or(rooms::limits::ROOM_BYTES, |mib| (mib as u64) << 20);
    let one = Client::join_with_events(&host.address, "p").await;
    one.typed("a").await;
    // An update in quarantine counts, and this test need not wait for its merge.
    let quarantine = |bytes: u64| {
        host.execute(&format!(
            "INSERT INTO loro_quarantine (project_id, rev, payload, origin, created_at, quarantined_at, reason)
             VALUES ('p', {bytes}, zeroblob({bytes}), '', 0, 0, '')"
        ))
    };
    quarantine(largest);
    // This update makes the app count, and the next one is refused, but a small one is not.
    assert_eq!(posted(&host, "p", large(300_000)).await.0, 200);
    let full = (507, json!("urn:loro-sync:problem:room-full"));
    until("the room is full", async || {
        posted(&host, "p", large(8_000)).await == full
    })
    .await;
    one.typed("b").await;
    one.until("it is stored", |one| one.decided() == 2).await;
    let errors = one.events("error");
    assert!(
        errors.iter().all(|error| error["code"] == "quarantined"),
        "{errors:?}"
    );

    quarantine(largest / 10);
    host.execute("UPDATE quota_usage SET counted_at = 0");
    assert_eq!(usage(&host, "p").await["full"], "room_full");
    assert_eq!(posted(&host, "p", large(1)).await, full);
}
