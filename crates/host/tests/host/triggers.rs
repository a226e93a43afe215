//! The Redis and cron triggers.

use std::time::Duration;

use crate::support::{TestHost, manifest};

const EXTRA: &str = "allowed_outbound_hosts = [\"{{ redis_url }}\"]\nkey_value_stores = [\"default\"]\nvariables = { redis_url = \"{{ redis_url }}\" }";

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_their_component_in_order() {
    let more = "[[trigger.redis]]\nchannel = \"{{ greeting }}-events\"\ncomponent = \"g\"";
    let host = TestHost::with(&manifest(EXTRA, more), |_| {}).await;
    // Until the trigger has subscribed, what is published is lost.
    let mut first = 0;
    loop {
        host.post("/g/publish/hello-events", format!("first {first}"))
            .await
            .ok();
        first += 1;
        if host.get("/g/kv/default/get/redis").await.status == 200 {
            break;
        }
        assert!(first < 500, "no message came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    host.post("/g/publish/other-events", "not for it")
        .await
        .ok();
    host.post("/g/publish/hello-events", "trap").await.ok();
    for n in 0..20 {
        host.post("/g/publish/hello-events", format!("n{n}"))
            .await
            .ok();
    }
    let all = host
        .wait_for_key("redis", |all| all.contains("n19\n"))
        .await;
    let numbered: Vec<&str> = all.lines().filter(|line| line.starts_with('n')).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    assert_eq!(numbered, expected);
    assert!(!all.contains("not for it"));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_events_come_on_time() {
    let more = "[[trigger.cron]]\ncron_expression = \"* * * * * *\"\ncomponent = \"g\"";
    let host = TestHost::with(&manifest(EXTRA, more), |_| {}).await;
    let all = host
        .wait_for_key("cron", |all| all.lines().count() >= 3)
        .await;
    let times: Vec<u64> = all.lines().map(|line| line.parse().unwrap()).collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(times.windows(2).all(|pair| pair[1] > pair[0]), "{times:?}");
    assert!(
        times.iter().all(|time| now - time < 60),
        "{times:?} at {now}"
    );
    host.stop().await;
}
