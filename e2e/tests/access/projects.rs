//! Checks projects, members and tokens, and the effect of each change on open sockets.

use std::time::{Duration, Instant};

use e2e::better_auth::{BetterAuth, Options};
use e2e::both_relays;
use e2e::host::{Host, Kind};
use e2e::people::{AGENT_TOKEN, Caller, setup};
use e2e::raw::{Client, Closed};
use e2e::wait::{until, until_within};
use serde_json::{Value, json};

/// The longest time until a change of access takes effect on open sockets.
const EFFECT: Duration = Duration::from_secs(5);

struct World {
    host: Host,
    owner: Caller,
    member: Caller,
    member_id: String,
    owner_id: String,
    auth: BetterAuth,
}

impl World {
    async fn start(relay: Kind) -> Self {
        let auth = BetterAuth::start(Options::default()).await;
        // A change must take effect through notices and comparisons here, not through the regular recheck.
        let setup = setup(relay, &auth).env("RELAY_RECHECK_INTERVAL", "5m");
        let host = setup.start().await;
        let owns = auth.sign_up("owner").await;
        let owner = Caller::with_cookies(&owns.cookies);
        let browser = auth.sign_up("member").await;
        owner.creates(&host.http(), "p").await;
        Self {
            host,
            owner,
            member: Caller::with_cookies(&browser.cookies),
            member_id: browser.user_id,
            owner_id: owns.user_id,
            auth,
        }
    }

    async fn admit(&self, role: &str) {
        let http = self.host.http();
        self.owner.admits(&http, "p", &self.member_id, role).await;
    }
}

async fn ends(client: &Client, code: u16, since: Instant) {
    assert_eq!(client.end().await, Closed::Code(code));
    assert!(since.elapsed() < EFFECT, "{:?}", since.elapsed());
}

/// Types, and returns whether the update was stored.
async fn can_type(client: &Client, words: &str) -> bool {
    let errors = client.events("error").len();
    let decided = client.decided();
    client.typed(words).await;
    until("the update is stored or refused", async || {
        client.decided() > decided || client.events("error").len() > errors
    })
    .await;
    client.events("error").len() == errors
}

both_relays! {
    async fn roles_take_effect_on_open_sockets(relay: Kind) {
        let world = World::start(relay).await;
        world.admit("read").await;
        let owner = world.owner.joins(&world.host.address, "p").await;
        let member = world.member.joins(&world.host.address, "p").await;
        member.event("synced").await;
        owner.typed("from the owner").await;
        until("the reader sees it", async || member.text() == "from the owner").await;
        // A reader's update is refused with an error of its own, and is not applied.
        assert!(!can_type(&member, " and more").await);
        let error = member.event("error").await;
        assert_eq!((&error["code"], &error["frame"]), (&json!("read_only"), &json!(1)));
        let document = world.owner.get(&world.host.http(), "/sync/p").await;
        let doc = loro::LoroDoc::new();
        doc.import(&document.body).unwrap();
        assert_eq!(doc.get_text("text").to_string(), "from the owner");

        world.admit("write").await;
        until_within(EFFECT, "the member may write", async || can_type(&member, "!").await).await;
        world.admit("read").await;
        until_within(EFFECT, "the member may not write", async || !can_type(&member, "?").await).await;
        let path = format!("/projects/p/members/{}", world.member_id);
        let since = Instant::now();
        world.owner.json(&world.host.http(), "DELETE", &path, json!({}), 204).await;
        ends(&member, 4403, since).await;
        assert!(can_type(&owner, ".").await);
        world.host.stop().await;
    }

    async fn a_deleted_project_is_gone(relay: Kind) {
        let world = World::start(relay).await;
        let http = world.host.http();
        world.admit("write").await;
        let task = json!({
            "project_id": "p", "task_type": "demo", "params": { "prompt": "a hill", "complete": "at_once" },
        });
        let posted = world.owner.json(&http, "POST", "/tasks", task, 201).await;
        let row = format!("/tasks/{}", posted["task_id"].as_str().unwrap());
        let mut asset = String::new();
        until("a result", async || {
            let task = world.owner.get(&http, &row).await.json();
            asset = task["result_url"].as_str().unwrap_or_default().rsplit('/').next().unwrap().to_owned();
            !asset.is_empty()
        })
        .await;
        let token = world.owner.makes_token(&http, "p", "write").await;
        let agent = Caller::with_token(token["token"].as_str().unwrap());
        let clients = [
            world.owner.joins(&world.host.address, "p").await,
            world.member.joins(&world.host.address, "p").await,
            agent.joins(&world.host.address, "p").await,
        ];
        clients[0].typed("hello").await;
        clients[0].saved(1).await;
        let since = Instant::now();
        assert_eq!(world.owner.send(&http, "DELETE", "/projects/p", "").await.status, 204);
        for client in &clients {
            assert!(client.end().await == Closed::Code(4404));
            assert!(since.elapsed() < EFFECT);
        }
        for path in ["/projects/p", "/sync/p", row.as_str(), &format!("/assets/{asset}")] {
            assert_eq!(world.owner.get(&http, path).await.status, 404, "{path}");
        }
        assert_eq!(world.owner.upgrade(&world.host.address, "/sync/p").await.0, 404);
        // An id is not used twice, so that a client's copy of the deleted document cannot enter a new project.
        let again = json!({ "project_id": "p" }).to_string();
        let answer = world.member.send(&http, "POST", "/projects", again).await;
        answer.assert_problem(409, "project-exists");
        let database = rusqlite::Connection::open(world.host.database()).unwrap();
        let count = || -> i64 {
            ["loro_updates", "loro_snapshots", "aigc_tasks", "assets"]
                .iter()
                .map(|table| {
                    let sql = format!("SELECT count(*) FROM {table} WHERE project_id = 'p'");
                    database.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
                })
                .sum()
        };
        until("every row of the project is gone", async || count() == 0).await;
        world.host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projects_are_made_listed_renamed_and_given_away() {
    let world = World::start(Kind::Native).await;
    let http = world.host.http();
    let made = world
        .owner
        .json(
            &http,
            "POST",
            "/projects",
            json!({ "name": "a canvas" }),
            201,
        )
        .await;
    assert_eq!(
        (&made["name"], &made["role"]),
        (&json!("a canvas"), &json!("owner"))
    );
    let id = made["project_id"].as_str().unwrap().to_owned();
    let taken = world
        .member
        .send(&http, "POST", "/projects", r#"{"project_id":"p"}"#);
    taken.await.assert_problem(409, "project-exists");
    for (body, status) in [
        (r#"{"project_id":"a b"}"#, 400),
        (r#"{"project_id":7}"#, 422),
        (r#"{"name":""}"#, 422),
        ("[]", 400),
        ("{", 400),
    ] {
        let answer = world.owner.send(&http, "POST", "/projects", body).await;
        assert_eq!(answer.status, status, "{body}");
    }
    let mine = async |who: &Caller| -> Vec<String> {
        let listed = who.get(&http, "/projects").await.json();
        let listed = listed["projects"].as_array().unwrap();
        let mut ids: Vec<String> = listed
            .iter()
            .map(|project| project["project_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    let mut both = vec!["p".to_owned(), id.clone()];
    both.sort();
    assert_eq!(mine(&world.owner).await, both);
    assert!(mine(&world.member).await.is_empty());
    world.admit("read").await;
    assert_eq!(mine(&world.member).await, ["p"]);
    let first = world.owner.get(&http, "/projects?limit=1").await.json();
    let next = format!(
        "/projects?cursor={}",
        first["next_cursor"].as_str().unwrap()
    );
    let second = world.owner.get(&http, &next).await.json();
    assert_eq!(second["projects"].as_array().unwrap().len(), 1);
    assert_eq!(second["next_cursor"], Value::Null);

    let renamed = json!({ "name": "another name" });
    world
        .owner
        .json(&http, "PATCH", "/projects/p", renamed, 200)
        .await;
    let shown = world.member.get(&http, "/projects/p").await.json();
    assert_eq!(
        (&shown["name"], &shown["role"]),
        (&json!("another name"), &json!("read"))
    );
    assert_eq!(shown["members"][0]["user_id"], world.member_id.as_str());
    let given = json!({ "owner_id": world.member_id });
    let after = world
        .owner
        .json(&http, "PATCH", "/projects/p", given, 200)
        .await;
    assert_eq!(after["role"], "write");
    let shown = world.member.get(&http, "/projects/p").await.json();
    assert_eq!(shown["role"], "owner");
    // The backend creates projects for users, and sees all projects.
    let backend = Caller::with_token(AGENT_TOKEN);
    let new = json!({ "project_id": "q", "owner_id": world.member_id });
    backend.json(&http, "POST", "/projects", new, 201).await;
    assert_eq!(mine(&backend).await.len(), 3);
    world.host.stop().await;
}

/// Reproduces the report "I was added to a project of strangers, and cannot leave it."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_leaves_without_effect_on_others() {
    let world = World::start(Kind::Native).await;
    let http = world.host.http();
    let eve = world.auth.sign_up("eve").await;
    let eves = Caller::with_cookies(&eve.cookies);
    for role in ["read", "write"] {
        world.admit(role).await;
        world.owner.admits(&http, "p", &eve.user_id, "write").await;
        let path = format!("/projects/p/members/{}", world.member_id);
        let answer = eves.send(&http, "DELETE", &path, "").await;
        answer.assert_problem(403, "owner-only");
        world
            .member
            .json(&http, "DELETE", &path, json!({}), 204)
            .await;
        assert_eq!(world.member.get(&http, "/sync/p").await.status, 403);
        assert_eq!(eves.get(&http, "/sync/p").await.status, 200);
    }
    let path = format!("/projects/p/members/{}", world.owner_id);
    let answer = world.owner.send(&http, "DELETE", &path, "").await;
    answer.assert_problem(409, "is-owner");
    world.host.stop().await;
}

/// Reproduces the report "I gave my project to two users at the same time, and one of them did not get it, though the
/// answer was yes."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_goes_to_one_member() {
    let world = World::start(Kind::Native).await;
    let http = world.host.http();
    let eve = world.auth.sign_up("eve").await;
    let give = |to: &str| json!({ "owner_id": to }).to_string();
    let answer = world
        .owner
        .send(&http, "PATCH", "/projects/p", give(&eve.user_id))
        .await;
    answer.assert_problem(422, "invalid-fields");
    assert!(answer.text().contains("a member"), "{}", answer.text());
    world.admit("read").await;
    world.owner.admits(&http, "p", &eve.user_id, "read").await;
    let mut statuses = Vec::new();
    let (to_member, to_eve) = (give(&world.member_id), give(&eve.user_id));
    // The requests go to the app, because the relay would keep such small bodies until they are whole.
    let app = world.host.app_http();
    let first = world
        .owner
        .holds(&app, "PATCH", "/projects/p", to_member.as_bytes())
        .await;
    let second = world
        .owner
        .holds(&app, "PATCH", "/projects/p", to_eve.as_bytes())
        .await;
    let (first, second) = tokio::join!(first.finish(), second.finish());
    for (status, answer) in [first, second] {
        statuses.push(status);
        assert!([200, 403, 409].contains(&status), "{answer}");
    }
    let given = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(given, 1, "{statuses:?}");
    // The former owner may still write.
    let shown = world.owner.get(&http, "/projects/p").await.json();
    assert_eq!(shown["role"], "write");
    world.host.stop().await;
}

/// Reproduces the report "I took the project over and removed the former owner, and their agent still writes."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_end_with_their_maker() {
    let world = World::start(Kind::Native).await;
    let http = world.host.http();
    world.admit("read").await;
    let made = world.owner.makes_token(&http, "p", "write").await;
    assert_eq!(made["created_by"], world.owner_id.as_str());
    let agent = Caller::with_token(made["token"].as_str().unwrap());
    let client = agent.joins(&world.host.address, "p").await;
    assert!(can_type(&client, "hello").await);
    let backend = Caller::with_token(AGENT_TOKEN);
    let of_backend = backend.makes_token(&http, "p", "write").await;
    assert_eq!(of_backend["created_by"], Value::Null);
    for wrong in [
        json!({ "revoke_tokens": true }),
        json!({ "revoke_tokens": 1 }),
    ] {
        let answer = world
            .owner
            .send(&http, "PATCH", "/projects/p", wrong.to_string());
        answer.await.assert_problem(422, "invalid-fields");
    }
    let give = json!({ "owner_id": world.member_id });
    let given = world
        .owner
        .json(&http, "PATCH", "/projects/p", give, 200)
        .await;
    assert_eq!(
        (&given["role"], &given["tokens_remaining"]),
        (&json!("write"), &json!(2))
    );
    let listed = world.member.get(&http, "/projects/p/tokens").await.json();
    let listed = listed["tokens"].as_array().unwrap();
    let mut makers: Vec<_> = listed
        .iter()
        .map(|token| token["created_by"].as_str())
        .collect();
    makers.sort();
    assert_eq!(makers, [None, Some(world.owner_id.as_str())]);
    assert!(can_type(&client, " again").await);
    // A removed member's token ends with the membership, also on open sockets, although the new owner never saw it.
    let path = format!("/projects/p/members/{}", world.owner_id);
    let since = Instant::now();
    world
        .member
        .json(&http, "DELETE", &path, json!({}), 204)
        .await;
    assert_eq!(agent.get(&http, "/sync/p").await.status, 401);
    ends(&client, 4401, since).await;
    let other = Caller::with_token(of_backend["token"].as_str().unwrap());
    assert_eq!(other.get(&http, "/sync/p").await.status, 200);
    // The project goes back to its first owner, and all tokens end.
    world
        .member
        .admits(&http, "p", &world.owner_id, "read")
        .await;
    assert_eq!(agent.get(&http, "/sync/p").await.status, 401);
    let give = json!({ "owner_id": world.owner_id, "revoke_tokens": true });
    let given = world
        .member
        .json(&http, "PATCH", "/projects/p", give, 200)
        .await;
    assert_eq!(given["tokens_remaining"], 0);
    assert_eq!(other.get(&http, "/sync/p").await.status, 401);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_once_and_ends() {
    let world = World::start(Kind::Native).await;
    let http = world.host.http();
    let made = world.owner.makes_token(&http, "p", "write").await;
    let token = made["token"].as_str().unwrap();
    let agent = Caller::with_token(token);
    let task = json!({ "project_id": "p", "task_type": "demo", "params": { "prompt": "a hill" } });
    agent.json(&http, "POST", "/tasks", task, 201).await;
    let update = e2e::raw::change(&loro::LoroDoc::new(), |doc| {
        doc.get_text("text").insert(0, "from an agent").unwrap();
    });
    assert_eq!(
        agent.send(&http, "POST", "/sync/p", update).await.status,
        200
    );
    let in_query = format!("/sync/p?token={token}");
    assert_eq!(Caller::anonymous().get(&http, &in_query).await.status, 200);
    let listed = world.owner.get(&http, "/projects/p/tokens").await;
    assert!(!listed.text().contains(token), "the token is shown again");
    let listed = listed.json();
    assert_eq!(listed["tokens"][0]["name"], "an agent");
    assert!(listed["tokens"][0]["last_used_at"].is_i64(), "{listed}");
    assert!(listed["tokens"][0].get("digest").is_none(), "{listed}");
    // A token with the role of a reader may read.
    let reads = world.owner.makes_token(&http, "p", "read").await;
    let reader = Caller::with_token(reads["token"].as_str().unwrap());
    assert_eq!(reader.get(&http, "/sync/p").await.status, 200);
    reader
        .send(&http, "POST", "/sync/p", "x")
        .await
        .assert_problem(403, "read-only");
    // This token expires.
    let body = json!({ "name": "short", "expires_in": 1 });
    let short = world
        .owner
        .json(&http, "POST", "/projects/p/tokens", body, 201)
        .await;
    let short = Caller::with_token(short["token"].as_str().unwrap());
    until("the token has expired", async || {
        short.get(&http, "/sync/p").await.status == 401
    })
    .await;
    // This token is revoked, which closes its open socket.
    let client = agent.joins(&world.host.address, "p").await;
    client.event("synced").await;
    let path = format!("/projects/p/tokens/{}", made["token_id"].as_str().unwrap());
    let since = Instant::now();
    world
        .owner
        .json(&http, "DELETE", &path, json!({}), 204)
        .await;
    assert_eq!(agent.get(&http, "/sync/p").await.status, 401);
    ends(&client, 4401, since).await;
    for body in [
        r#"{"role":"owner"}"#,
        r#"{"expires_at":1}"#,
        r#"{"expires_in":-1}"#,
        r#"{"expires_in":1,"expires_at":99999999999}"#,
        r#"{"name":7}"#,
    ] {
        let answer = world.owner.send(&http, "POST", "/projects/p/tokens", body);
        answer.await.assert_problem(422, "invalid-fields");
    }
    // No part of a token is in the log.
    assert!(!world.host.process.log().contains(token));
    world.host.stop().await;
}
