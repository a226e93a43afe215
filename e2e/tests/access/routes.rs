//! Checks the status that every kind of caller gets from every route and every WebSocket path.

use std::collections::BTreeSet;

use door::{Need, routes};
use e2e::better_auth::{BetterAuth, Options};
use e2e::both_relays;
use e2e::host::{Host, Kind};
use e2e::http::Http;
use e2e::people::{AGENT_TOKEN, Caller, setup};
use e2e::wait::until;
use serde_json::{Value, json};

/// The callers, in the order of the columns of [`TABLE`].
const CALLERS: [&str; 9] = [
    "anonymous",
    "expired",
    "stranger",
    "reader",
    "writer",
    "owner",
    "token of another project",
    "revoked token",
    "agent_token",
];

/// The request passes: 2xx, 101, or 409 if there is nothing to do.
const OK: u16 = 0;

/// A route, with the status for each caller.
type Line = (&'static str, &'static str, [u16; 9]);

const OPEN: [u16; 9] = [OK; 9];
const SIGNED: [u16; 9] = [401; 9];
const AUTHENTICATED: [u16; 9] = [401, 401, OK, OK, OK, OK, OK, 401, OK];
const READ: [u16; 9] = [401, 401, 403, OK, OK, OK, 403, 401, OK];
const WRITE: [u16; 9] = [401, 401, 403, 403, OK, OK, 403, 401, OK];
const OWN: [u16; 9] = [401, 401, 403, 403, 403, OK, 403, 401, OK];
/// The writer passes because the path names them, and a member may leave.
const OWN_OR_SELF: [u16; 9] = [401, 401, 403, 403, OK, OK, 403, 401, OK];
/// A caller who is not admitted to the project gets 404 for its row, as if the row did not exist.
const READ_ROW: [u16; 9] = [401, 401, 404, OK, OK, OK, 404, 401, OK];
const WRITE_ROW: [u16; 9] = [401, 401, 404, 403, OK, OK, 404, 401, OK];
/// A caller who may write gets an error that names what the request lacks, or that says that there is no such upload.
const WRITE_LACKING: [u16; 9] = [401, 401, 403, 403, 422, 422, 403, 401, 422];
const WRITE_NOTHING: [u16; 9] = [401, 401, 403, 403, 404, 404, 403, 401, 404];
/// A token of a project cannot create one, and the backend must name the owner.
const NEW_PROJECT: [u16; 9] = [401, 401, OK, OK, OK, OK, 403, 401, 422];

const TABLE: &[Line] = &[
    ("GET", "/health", OPEN),
    ("GET", "/sync/{project}", READ),
    ("POST", "/sync/{project}", WRITE),
    ("GET", "/projects", AUTHENTICATED),
    ("POST", "/projects", NEW_PROJECT),
    ("GET", "/projects/{project}", READ),
    ("PATCH", "/projects/{project}", OWN),
    ("DELETE", "/projects/{project}", OWN),
    ("PUT", "/projects/{project}/members/{user}", OWN),
    ("DELETE", "/projects/{project}/members/{user}", OWN_OR_SELF),
    ("GET", "/projects/{project}/tokens", OWN),
    ("POST", "/projects/{project}/tokens", OWN),
    ("DELETE", "/projects/{project}/tokens/{token}", OWN),
    ("GET", "/projects/{project}/quarantine", OWN),
    ("GET", "/projects/{project}/quarantine/{rev}", OWN),
    ("POST", "/projects/{project}/quarantine/{rev}/restore", OWN),
    ("DELETE", "/projects/{project}/quarantine/{rev}", OWN),
    ("GET", "/tasks", AUTHENTICATED),
    ("POST", "/tasks", WRITE),
    ("GET", "/tasks/{task}", READ_ROW),
    ("GET", "/tasks/{task}/events", READ_ROW),
    ("GET", "/projects/{project}/tasks/events", READ),
    ("POST", "/tasks/{task}/cancel", WRITE_ROW),
    ("POST", "/tasks/{task}/retry", WRITE_ROW),
    ("POST", "/projects/{project}/assets", WRITE),
    ("POST", "/projects/{project}/uploads", WRITE_LACKING),
    (
        "POST",
        "/projects/{project}/uploads/{upload}",
        WRITE_LACKING,
    ),
    (
        "DELETE",
        "/projects/{project}/uploads/{upload}",
        WRITE_NOTHING,
    ),
    ("GET", "/projects/{project}/export", OWN),
    ("PUT", "/projects/{project}/import", NEW_PROJECT),
    ("GET", "/assets/{asset}", READ_ROW),
    ("POST", "/webhooks/{service}", SIGNED),
];

/// The paths that accept an upgrade.
const SOCKETS: &[(&str, [u16; 9])] = &[("/sync/{project}", READ)];

/// The routes of the relay itself, and their status without the internal token.
const RELAY: &[(&str, &str, u16)] = &[
    ("GET", "/metrics", 401),
    ("GET", "/ready", 200),
    ("GET", "/internal/metrics", 404),
    ("POST", "/internal/drain", 401),
    ("POST", "/internal/recheck", 401),
    ("POST", "/internal/append", 404),
    ("POST", "/internal/line", 404),
    ("POST", "/internal/access", 404),
    ("GET", "/internal/rooms/p/state", 404),
    ("GET", "/internal/archives", 404),
    ("GET", "/internal/archives/p", 404),
    ("PUT", "/internal/archives/p", 404),
];

/// A project with a caller of each kind.
struct Scene {
    project: String,
    callers: Vec<Caller>,
    member: String,
}

struct World {
    host: Host,
    auth: BetterAuth,
}

impl World {
    async fn start(relay: Kind) -> Self {
        let auth = BetterAuth::start(Options::default()).await;
        let host = setup(relay, &auth).start().await;
        Self { host, auth }
    }

    fn http(&self) -> Http {
        self.host.http()
    }

    async fn scene(&self, project: &str) -> Scene {
        let http = self.http();
        let person = async |name: &str| self.auth.sign_up(&format!("{name}-{project}")).await;
        let (stranger, reader, writer, owner) = (
            person("stranger").await,
            person("reader").await,
            person("writer").await,
            person("owner").await,
        );
        let gone = person("gone").await;
        self.auth.sign_out(&gone).await;
        let owns = Caller::with_cookies(&owner.cookies);
        owns.creates(&http, project).await;
        let other = format!("{project}-other");
        owns.creates(&http, &other).await;
        for (user, role) in [(&reader, "read"), (&writer, "write")] {
            owns.admits(&http, project, &user.user_id, role).await;
        }
        let foreign = owns.makes_token(&http, &other, "write").await;
        let revoked = owns.makes_token(&http, project, "write").await;
        let path = format!(
            "/projects/{project}/tokens/{}",
            revoked["token_id"].as_str().unwrap()
        );
        owns.json(&http, "DELETE", &path, json!({}), 204).await;
        let token = |made: &serde_json::Value| made["token"].as_str().unwrap().to_owned();
        let callers = vec![
            Caller::anonymous(),
            Caller::with_cookies(&gone.cookies),
            Caller::with_cookies(&stranger.cookies),
            Caller::with_cookies(&reader.cookies),
            Caller::with_cookies(&writer.cookies),
            owns,
            Caller::with_token(&token(&foreign)),
            Caller::with_token(&token(&revoked)),
            Caller::with_token(AGENT_TOKEN),
        ];
        assert_eq!(callers.len(), CALLERS.len());
        Scene {
            project: project.to_owned(),
            callers,
            member: writer.user_id,
        }
    }

    /// Makes a task that has ended, whose result is an asset. Returns the ids of both.
    async fn task(&self, scene: &Scene) -> (String, String) {
        let (owner, http) = (&scene.callers[5], self.http());
        let body = json!({
            "project_id": scene.project, "task_type": "demo",
            "params": { "prompt": "a hill", "complete": "at_once" },
        });
        let posted = owner.json(&http, "POST", "/tasks", body, 201).await;
        let path = format!("/tasks/{}", posted["task_id"].as_str().unwrap());
        let mut asset = String::new();
        until("a result", async || {
            let task = owner.get(&http, &path).await.json();
            let result = task["result_url"].as_str().unwrap_or_default();
            asset = result.rsplit('/').next().unwrap_or_default().to_owned();
            task["status"] == "completed"
        })
        .await;
        (posted["task_id"].as_str().unwrap().to_owned(), asset)
    }

    /// The path and the body of a valid request for a route.
    async fn request(&self, scene: &Scene, method: &str, pattern: &str) -> (String, Vec<u8>) {
        let (task, asset) = match pattern.contains("{task}") || pattern.contains("{asset}") {
            true => self.task(scene).await,
            false => Default::default(),
        };
        let token = match pattern.contains("{token}") {
            true => {
                let (owner, http) = (&scene.callers[5], self.http());
                let made = owner.makes_token(&http, &scene.project, "read").await;
                made["token_id"].as_str().unwrap().to_owned()
            }
            false => String::new(),
        };
        if pattern.contains("{rev}") {
            self.host.execute(&format!(
                "INSERT OR IGNORE INTO loro_quarantine VALUES ('{}', 1, x'00', 'test', 0, 0, 'a reason')",
                scene.project
            ));
        }
        let path = pattern
            .replace("{project}", &scene.project)
            .replace("{rev}", "1")
            .replace("{user}", &scene.member)
            .replace("{service}", "kling")
            .replace("{task}", &task)
            .replace("{asset}", &asset)
            .replace("{upload}", "asset_none")
            .replace("{token}", &token);
        let body = match (method, pattern) {
            ("POST", "/sync/{project}") => e2e::raw::change(&loro::LoroDoc::new(), |doc| {
                doc.get_text("text").insert(0, "hello").unwrap();
            }),
            // The answer to a caller that may make a project is that the id is taken.
            ("PUT", "/projects/{project}/import") => {
                let from = format!("/projects/{}/export", scene.project);
                let archive = scene.callers[5].get(&self.http(), &from).await;
                assert_eq!(archive.status, 200, "{archive:?}");
                archive.body.to_vec()
            }
            ("PUT", _) => json!({ "role": "write" }).to_string().into(),
            ("PATCH", _) => json!({ "name": "another name" }).to_string().into(),
            ("POST", "/tasks") => json!({
                "project_id": scene.project, "task_type": "demo", "params": { "prompt": "a hill" },
            })
            .to_string()
            .into(),
            ("POST", "/projects/{project}/assets") => b"GIF89a".to_vec(),
            ("POST", _) => b"{}".to_vec(),
            _ => Vec::new(),
        };
        (path, body)
    }
}

fn is(got: u16, expected: u16) -> bool {
    match expected {
        OK => matches!(got, 101 | 200..=299 | 409),
        status => got == status,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_the_listed_status() {
    let world = World::start(Kind::Native).await;
    let mut wrong = Vec::new();
    for (number, (method, pattern, expected)) in TABLE.iter().enumerate() {
        let scene = world.scene(&format!("p{number}")).await;
        let (path, body) = world.request(&scene, method, pattern).await;
        // Callers that pass come last, because after a deletion there is nothing left to refuse. A restored update leaves
        // the quarantine, too.
        let deletes = *method == "DELETE" || pattern.ends_with("/restore");
        let mut order: Vec<usize> = (0..CALLERS.len()).collect();
        order.sort_by_key(|caller| expected[*caller] == OK);
        let mut done = false;
        for caller in order {
            if deletes && done && expected[caller] == OK {
                continue;
            }
            let who = &scene.callers[caller];
            // The stream of a project has no end, so only its head is requested.
            let is_endless = pattern.ends_with("/tasks/events");
            let method = if is_endless { "HEAD" } else { *method };
            let answer = who.send(&world.http(), method, &path, body.clone()).await;
            let status = answer.status.as_u16();
            done |= expected[caller] == OK;
            if !is(status, expected[caller]) {
                wrong.push(format!("{method} {path} by {}: {status}", CALLERS[caller]));
            }
            if status >= 400 {
                assert_eq!(answer.header("content-type"), "application/problem+json");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (method, path, expected) in RELAY {
        let answer = Caller::anonymous()
            .send(&world.http(), method, path, "")
            .await;
        assert_eq!(answer.status, *expected, "{method} {path}");
    }
    for (method, path) in [
        ("POST", "/internal/append"),
        ("POST", "/internal/line"),
        ("POST", "/internal/access"),
        ("POST", "/internal/poll"),
        ("GET", "/internal/metrics"),
        ("GET", "/internal/rooms/p/state"),
        ("GET", "/internal/archives"),
        ("GET", "/internal/archives/p"),
        ("PUT", "/internal/archives/p"),
    ] {
        let app = world.host.app_http();
        for who in [Caller::anonymous(), Caller::with_token(AGENT_TOKEN)] {
            let answer = who.send(&app, method, path, "").await;
            assert_eq!(answer.status, 401, "{method} {path} at the app");
        }
    }
    // The files of the page are public.
    assert_eq!(
        Caller::anonymous().get(&world.http(), "/").await.status,
        200
    );
    world.host.stop().await;
}

both_relays! {
    async fn every_socket_is_opened_by_the_listed_callers(relay: Kind) {
        let world = World::start(relay).await;
        let scene = world.scene("p").await;
        for (pattern, expected) in SOCKETS {
            let path = pattern.replace("{project}", &scene.project);
            for (caller, who) in scene.callers.iter().enumerate() {
                let (status, problem) = who.upgrade(&world.host.address, &path).await;
                assert!(is(status, expected[caller]), "{path} by {}: {status}", CALLERS[caller]);
                if status != 101 {
                    assert_eq!(problem["status"], status, "{problem}");
                }
            }
            // Clients that cannot set headers send the token in the query.
            let owner = &scene.callers[5];
            let made = owner.makes_token(&world.http(), &scene.project, "read").await;
            let with_token = format!("{path}?token={}", made["token"].as_str().unwrap());
            let (status, _) = Caller::anonymous().upgrade(&world.host.address, &with_token).await;
            assert_eq!(status, 101);
            let unknown = pattern.replace("{project}", "nowhere");
            let (status, problem) = owner.upgrade(&world.host.address, &unknown).await;
            assert_eq!(status, 404, "{problem}");
            assert_eq!(problem["type"], "urn:loro-sync:problem:project-not-found");
        }
        world.host.stop().await;
    }
}

/// A request to each of two routes that store something: method, path and body.
fn writes(project: &str) -> [(&'static str, String, Vec<u8>); 2] {
    let update = e2e::raw::change(&loro::LoroDoc::new(), |doc| {
        doc.get_text("text").insert(0, "too late").unwrap();
    });
    let task = json!({
        "project_id": project, "task_type": "demo", "params": { "prompt": "too late" },
    });
    [
        ("POST", format!("/sync/{project}"), update),
        ("POST", "/tasks".into(), task.to_string().into_bytes()),
    ]
}

async fn nothing_is_stored(owner: &Caller, http: &Http, project: &str) {
    let document = owner.get(http, &format!("/sync/{project}")).await;
    assert_eq!(document.rev(), 0, "{document:?}");
    let path = format!("/tasks?project_id={project}");
    let tasks = owner.get(http, &path).await.json();
    assert_eq!(tasks["tasks"], json!([]));
}

/// Waits until a token was used, which means that the request that carries it was admitted.
async fn has_been_used(owner: &Caller, http: &Http, project: &str, token: &Value) {
    until("the token is used", async || {
        let listed = owner
            .get(http, &format!("/projects/{project}/tokens"))
            .await;
        let listed = listed.json();
        let mut tokens = listed["tokens"].as_array().unwrap().iter();
        tokens.any(|listed| {
            listed["token_id"] == token["token_id"] && listed["last_used_at"].is_i64()
        })
    })
    .await;
}

/// Reproduces the report "I revoked the agent's token, and a minute later it still wrote."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_revoked_during_its_request_writes_nothing() {
    let world = World::start(Kind::Native).await;
    // The held requests go to the app, because the relay would keep such a small body until it is whole.
    let (http, app) = (world.http(), world.host.app_http());
    let owner = Caller::with_cookies(&world.auth.sign_up("owner").await.cookies);
    owner.creates(&http, "p").await;
    for (method, path, body) in writes("p") {
        let token = owner.makes_token(&http, "p", "write").await;
        let agent = Caller::with_token(token["token"].as_str().unwrap());
        let held = agent.holds(&app, method, &path, &body).await;
        has_been_used(&owner, &http, "p", &token).await;
        let revoke = format!("/projects/p/tokens/{}", token["token_id"].as_str().unwrap());
        owner.json(&http, "DELETE", &revoke, json!({}), 204).await;
        let (status, answer) = held.finish().await;
        assert_eq!(status, 401, "revoked, {path}: {answer}");

        let short = json!({ "name": "short", "expires_in": 3 });
        let token = owner
            .json(&http, "POST", "/projects/p/tokens", short, 201)
            .await;
        let agent = Caller::with_token(token["token"].as_str().unwrap());
        let held = agent.holds(&app, method, &path, &body).await;
        has_been_used(&owner, &http, "p", &token).await;
        until("the token has ended", async || {
            agent.get(&http, "/sync/p").await.status == 401
        })
        .await;
        let (status, answer) = held.finish().await;
        assert_eq!(status, 401, "expired, {path}: {answer}");
    }
    nothing_is_stored(&owner, &http, "p").await;
    world.host.stop().await;
}

/// Reproduces the report "I was waiting for my task when my token was revoked, and still got the result."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_revoked_during_a_wait_gets_nothing() {
    let world = World::start(Kind::Native).await;
    let http = world.http();
    let owner = Caller::with_cookies(&world.auth.sign_up("owner").await.cookies);
    owner.creates(&http, "p").await;
    let task = json!({
        "project_id": "p", "task_type": "demo", "params": { "prompt": "a hill", "seconds": 600 },
    });
    let posted = owner.json(&http, "POST", "/tasks", task, 201).await;
    let path = format!("/tasks/{}", posted["task_id"].as_str().unwrap());
    until("the request is under way", async || {
        owner.get(&http, &path).await.json()["status"] == "processing"
    })
    .await;
    let token = owner.makes_token(&http, "p", "read").await;
    let agent = Caller::with_token(token["token"].as_str().unwrap());
    let waiting = {
        let (http, path) = (http.clone(), format!("{path}?wait=4"));
        tokio::spawn(async move { agent.get(&http, &path).await })
    };
    has_been_used(&owner, &http, "p", &token).await;
    let revoke = format!("/projects/p/tokens/{}", token["token_id"].as_str().unwrap());
    owner.json(&http, "DELETE", &revoke, json!({}), 204).await;
    let answer = waiting.await.unwrap();
    answer.assert_problem(401, "unauthenticated");
    world.host.stop().await;
}

/// Reproduces the report "I removed a member from the project, and they still wrote to it."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_removed_during_a_request_writes_nothing() {
    let auth = BetterAuth::start(Options::default()).await;
    let setup = setup(Kind::Native, &auth).variable("auto_create_projects", "true");
    let host = setup.start().await;
    let http = host.http();
    let backend = Caller::with_token(AGENT_TOKEN);
    let (ann, bob) = (auth.sign_up("ann").await, auth.sign_up("bob").await);
    let (anns, bobs) = (
        Caller::with_cookies(&ann.cookies),
        Caller::with_cookies(&bob.cookies),
    );
    let [(method, path, update), _] = writes("p");
    // Admission creates the project, which shows that the request has been admitted. The request goes to the app, because
    // the relay would keep such a small body until it is whole.
    let held = anns.holds(&host.app_http(), method, &path, &update).await;
    until("the project exists", async || {
        backend.get(&http, "/projects/p").await.status == 200
    })
    .await;
    backend.admits(&http, "p", &bob.user_id, "write").await;
    let given = json!({ "owner_id": bob.user_id });
    backend
        .json(&http, "PATCH", "/projects/p", given, 200)
        .await;
    let member = format!("/projects/p/members/{}", ann.user_id);
    bobs.json(&http, "DELETE", &member, json!({}), 204).await;
    let (status, answer) = held.finish().await;
    assert_eq!(status, 403, "{answer}");
    nothing_is_stored(&bobs, &http, "p").await;
    host.stop().await;
}

/// Checks that each route is in the table, so that its access has been decided.
#[test]
fn the_table_has_every_route() {
    let listed: BTreeSet<_> = TABLE.iter().map(|line| (line.0, line.1)).collect();
    let served: BTreeSet<_> = routes::ALL
        .iter()
        .copied()
        .flatten()
        .filter(|spec| spec.need != Need::Relay && spec.component != "console")
        .map(|spec| (spec.method, spec.path))
        .collect();
    assert_eq!(listed, served);
    let upgraded: Vec<&str> = SOCKETS.iter().map(|socket| socket.0).collect();
    assert_eq!(upgraded, relay::UPGRADES);
}
