//! Checks sessions: users sign in and out of a real Better Auth, and their sockets follow.

use std::time::Duration;

use e2e::better_auth::{BetterAuth, Options};
use e2e::both_relays;
use e2e::host::Kind;
use e2e::people::{AGENT_TOKEN, Caller, setup};
use e2e::raw::Closed;
use e2e::wait::until_within;
use serde_json::json;

both_relays! {
    async fn a_socket_ends_with_its_session(relay: Kind) {
        let auth = BetterAuth::start(Options::default()).await;
        let host = setup(relay, &auth).start().await;
        let browser = auth.sign_up("ann").await;
        let ann = Caller::with_cookies(&browser.cookies);
        ann.creates(&host.http(), "p").await;
        let client = ann.joins(&host.address, "p").await;
        client.typed("hello").await;
        client.saved(1).await;
        auth.sign_out(&browser).await;
        assert_eq!(client.end().await, Closed::Code(4401));
        // Plain requests accept the session for less than a minute more; the socket's recheck has shortened this.
        until_within(Duration::from_secs(60), "the session is no longer accepted", async || {
            ann.get(&host.http(), "/sync/p").await.status == 401
        })
        .await;
        let again = Caller::with_cookies(&auth.sign_in("ann").await.cookies);
        let (document, _) = {
            let answer = again.get(&host.http(), "/sync/p").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let doc = loro::LoroDoc::new();
            doc.import(&answer.body).unwrap();
            (doc, answer.rev())
        };
        assert_eq!(document.get_text("text").to_string(), "hello");
        host.stop().await;
    }

    /// Checks that no client is admitted, and no open socket is closed, while Better Auth cannot verify a session.
    async fn better_auth_fails_in_every_way(relay: Kind) {
        let auth = BetterAuth::start(Options::default()).await;
        let host = setup(relay, &auth).start().await;
        let ann = Caller::with_cookies(&auth.sign_up("ann").await.cookies);
        ann.creates(&host.http(), "p").await;
        let client = ann.joins(&host.address, "p").await;
        let bob = Caller::with_cookies(&auth.sign_up("bob").await.cookies);
        let carol = auth.sign_up("carol").await;
        ann.admits(&host.http(), "p", &carol.user_id, "write").await;
        let writer = Caller::with_cookies(&carol.cookies).joins(&host.address, "p").await;
        writer.event("synced").await;
        for mode in ["error", "garbage", "hang"] {
            auth.fault(mode).await;
            let answer = bob.get(&host.http(), "/projects").await;
            answer.assert_problem(503, "auth-unavailable");
            assert_ne!(answer.header("retry-after"), "", "{mode}");
            let (status, problem) = bob.upgrade(&host.address, "/sync/p").await;
            assert_eq!(status, 503, "{mode}: {problem}");
            // The pause covers more than one recheck of the socket.
            let looked = auth.asked().await;
            until_within(Duration::from_secs(60), "the socket was rechecked", async || {
                auth.asked().await >= looked + 2
            })
            .await;
            client.assert_fine(mode);
        }
        // The user's role is still checked, although their session cannot be.
        let backend = Caller::with_token(AGENT_TOKEN);
        backend.admits(&host.http(), "p", &carol.user_id, "read").await;
        until_within(Duration::from_secs(10), "the user may no longer write", async || {
            writer.typed("?").await;
            writer.events("error").iter().any(|error| error["code"] == "read_only")
        })
        .await;
        let path = format!("/projects/p/members/{}", carol.user_id);
        backend.json(&host.http(), "DELETE", &path, json!({}), 204).await;
        assert_eq!(writer.end().await, Closed::Code(4403));
        auth.fault("none").await;
        client.typed("still here").await;
        client.saved(1).await;
        assert_eq!(bob.get(&host.http(), "/projects").await.status, 200);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_of_every_kind() {
    let secure = Options {
        secure: true,
        ..Options::default()
    };
    let prefixed = Options {
        prefix: Some("canvas".into()),
        ..Options::default()
    };
    // Here the cookies hold a copy of the session, in several pieces, that is valid by itself for minutes.
    let chunked = Options {
        cookie_cache: true,
        large: true,
        ..Options::default()
    };
    for (options, part) in [
        (secure, "__Secure-better-auth.session_token="),
        (prefixed, "canvas.session_token="),
        (chunked, "better-auth.session_data.1="),
    ] {
        let auth = BetterAuth::start(options).await;
        let host = setup(Kind::Native, &auth).start().await;
        let browser = auth.sign_up("ann").await;
        assert!(browser.cookies.contains(part), "{}", browser.cookies);
        let ann = Caller::with_cookies(&browser.cookies);
        ann.creates(&host.http(), "p").await;
        let client = ann.joins(&host.address, "p").await;
        client.event("synced").await;
        auth.sign_out(&browser).await;
        assert_eq!(client.end().await, Closed::Code(4401), "{part}");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verified_session_is_remembered_for_a_while() {
    let auth = BetterAuth::start(Options::default()).await;
    let host = setup(Kind::Native, &auth).start().await;
    let ann = Caller::with_cookies(&auth.sign_up("ann").await.cookies);
    for _ in 0..20 {
        assert_eq!(ann.get(&host.http(), "/projects").await.status, 200);
    }
    assert!(auth.asked().await <= 2, "{}", auth.asked().await);
    let unknown = Caller::with_cookies("better-auth.session_token=made.up");
    unknown
        .get(&host.http(), "/projects")
        .await
        .assert_problem(401, "unauthenticated");
    host.stop().await;
}

/// Checks that the origin of a page must be allowed, because browsers send a visitor's cookies with the requests of any
/// page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_are_refused() {
    let auth = BetterAuth::start(Options::default()).await;
    let host = setup(Kind::Native, &auth)
        .variable("environment", "production")
        .variable("allowed_origins", "https://app.example")
        .start()
        .await;
    let http = host.http();
    let ann = Caller::with_cookies(&auth.sign_up("ann").await.cookies);
    ann.creates(&http, "p").await;
    let own = format!("http://{}", host.address);
    for (origin, may) in [
        (own.as_str(), true),
        ("https://app.example", true),
        ("https://evil.example", false),
        ("http://app.example", false),
        ("null", false),
    ] {
        let page = ann.clone().header("origin", origin);
        let (status, problem) = page.upgrade(&host.address, "/sync/p").await;
        assert_eq!(status, if may { 101 } else { 403 }, "{origin}: {problem}");
        let body = json!({ "name": "a name" }).to_string();
        let answer = page.send(&http, "PATCH", "/projects/p", body).await;
        assert_eq!(answer.status, if may { 200 } else { 403 }, "{origin}");
        if !may {
            answer.assert_problem(403, "cross-site");
        }
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, if may { origin } else { "" });
        // A preflight has no cookies.
        let preflight = Caller::anonymous()
            .header("origin", origin)
            .header("access-control-request-method", "PATCH");
        let answer = preflight.send(&http, "OPTIONS", "/projects/p", "").await;
        assert_eq!(answer.status, 204, "{answer:?}");
        let methods = answer.header("access-control-allow-methods");
        assert_eq!(methods.contains("PATCH"), may, "{origin}: {methods}");
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            if may { "true" } else { "" }
        );
    }
    // At the app itself, the app's own address is the allowed origin.
    let page = ann.header("origin", &format!("http://{}", host.app));
    let body = json!({ "name": "a name" });
    page.json(&host.app_http(), "PATCH", "/projects/p", body, 200)
        .await;
    host.stop().await;
}
