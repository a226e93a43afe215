//! The demo service, which completes in each way that services complete.

use e2e::document::until_shown;
use e2e::kling::Plan;
use e2e::raw::Client;
use e2e::tasks::{World, id};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_completes_and_fails_in_each_way() {
    let world = World::start(Plan::default()).await;
    let watcher = Client::join(&world.host.address, "p").await;
    let mut ids = Vec::new();
    for complete in ["poll", "webhook", "at_once"] {
        for fail in [json!(null), json!(true), json!("no paint")] {
            let params =
                json!({ "prompt": complete, "complete": complete, "seconds": 1, "fail": fail });
            ids.push((id(&world.posted("demo", params).await), fail));
        }
    }
    for (id, fail) in ids {
        let done = world.finished(&id).await;
        let (status, message) = match fail {
            Value::Null => ("completed", json!(null)),
            Value::String(message) => ("failed", json!(message)),
            _ => ("failed", json!("the demo was told to fail")),
        };
        assert_eq!(
            (&done["status"], &done["error_message"]),
            (&json!(status), &message),
            "{done}"
        );
        until_shown(&watcher, &done).await;
    }
}
