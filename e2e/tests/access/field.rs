//! The failures that users with a real Better Auth reported, each quoted at its test.

use e2e::better_auth::{BetterAuth, Options};
use e2e::host::Kind;
use e2e::people::{Caller, setup};
use e2e::wait::until;
use futures_util::future::join_all;

/// The limit of Better Auth for one address.
const LIMIT: u32 = 4;

/// Reproduces the report "Of 150 people who open a canvas in a second, 50 are refused": to Better Auth all of them were
/// one address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_office_opens_a_canvas_at_once() {
    let options = Options {
        limit: Some(LIMIT),
        ..Options::default()
    };
    let auth = BetterAuth::start(options).await;
    let relay = setup(Kind::Native, &auth).env("RELAY_TRUST_FORWARDED", "true");
    let host = relay.start().await;
    let people = join_all((0..3 * LIMIT).map(async |n| {
        let browser = auth.sign_up(&format!("user{n}")).await;
        Caller::with_cookies(&browser.cookies)
    }))
    .await;
    let http = host.http();
    let statuses = async |address: fn(usize) -> String| {
        join_all(people.iter().enumerate().map(async |(n, person)| {
            let person = person.clone().header("x-forwarded-for", &address(n));
            person.get(&http, "/projects").await
        }))
        .await
    };
    for answer in statuses(|n| format!("10.0.0.{n}")).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    host.stop().await;
    // From one office they are one address, and the answer to a user over the limit says how long to wait.
    let host = setup(Kind::Native, &auth)
        .env("RELAY_TRUST_FORWARDED", "true")
        .start()
        .await;
    let http = host.http();
    let asked = auth.asked().await;
    let mut refused = 0;
    for person in &people {
        let person = person.clone().header("x-forwarded-for", "10.1.0.1");
        let answer = person.get(&http, "/projects").await;
        if answer.status != 200 {
            answer.assert_problem(503, "auth-unavailable");
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=10).contains(&wait), "{answer:?}");
            refused += 1;
        }
    }
    assert_eq!(refused, 2 * LIMIT);
    // Once Better Auth has answered 429, the app does not ask it again before that time.
    assert_eq!(auth.asked().await - asked, u64::from(LIMIT) + 1);
    host.stop().await;
}

/// Reproduces the report "One page asks for the same session ten times."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_sends_many_requests_at_once() {
    let auth = BetterAuth::start(Options::default()).await;
    let host = setup(Kind::Native, &auth).start().await;
    let ann = Caller::with_cookies(&auth.sign_up("ann").await.cookies);
    auth.slow(1.0).await;
    let http = host.http();
    let first = ann.get(&http, "/projects");
    let others = async {
        until("the first request asks", async || auth.asked().await == 1).await;
        join_all((0..10).map(|_| ann.get(&http, "/projects"))).await
    };
    let (first, others) = tokio::join!(first, others);
    for answer in others.iter().chain([&first]) {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(auth.asked().await, 1);
    host.stop().await;
}
