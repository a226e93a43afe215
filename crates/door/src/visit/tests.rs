use std::cell::{Cell, RefCell};

use auth::{
    Principal, Role,
    projects::{self, NewProject},
    tokens::{self, NewToken},
};
use futures_util::stream;
use platform::native::{MapConfig, World, block_on};

use super::*;
use crate::{
    Message, Need, ProjectSource, Spec, admit,
    body::Chunks,
    routes::{self, Console, Projects, Sync, Tasks},
};

/// The headers that the component adds to every answer.
const HEADERS: Headers = &[("x-component", "c"), ("cache-control", "no-cache")];

const AUTH: (&str, &str) = ("better_auth_origin", "https://auth.example");

fn world(settings: &[(&str, &str)]) -> World {
    World::new(MapConfig::from_pairs(settings))
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Head {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    let reached = Some("127.0.0.1:3000".to_owned());
    Head::new(method, path, headers.iter().map(owned).collect(), reached)
}

fn body<'a>(bytes: &'static [u8]) -> Body<'a> {
    let chunks: Chunks<'a> = Box::pin(stream::iter([Ok(bytes.to_vec())]));
    Body {
        declared: Some(bytes.len()),
        chunks,
    }
}

/// The answer to a request whose handler answers 200 with a body.
fn answer<'a, R: Routes>(world: &'a World, head: Head) -> Reply<'a> {
    let handler = async |_: Admitted<'a, R>| Ok(Reply::new(200).body("handled"));
    block_on(visit::<R>(
        world.ports(),
        Arrival::at::<R>(head, body(b"")),
        HEADERS,
        handler,
    ))
}

fn status<R: Routes>(world: &World, head: Head) -> u16 {
    answer::<R>(world, head).status()
}

fn header<'a>(reply: &'a Reply<'_>, wanted: &str) -> Option<&'a str> {
    let mut found = reply.headers().filter(|(name, _)| *name == wanted);
    found.next().map(|(_, value)| value)
}

fn make_project(world: &World, owner_id: &str) {
    let ports = world.ports();
    let new = NewProject {
        project_id: "p",
        name: "p",
        owner_id,
    };
    block_on(projects::create(ports.database, ports.clock, new)).unwrap();
}

/// A token of the project `p`, made by its owner, and the token's id.
fn make_token(world: &World, role: Role, expires_at: Option<i64>) -> (String, String) {
    let ports = world.ports();
    let new = NewToken {
        project_id: "p",
        name: "agent",
        role,
        expires_at,
        created_by: "user:a",
    };
    let made = tokens::create(ports.database, ports.clock, new);
    let (made, token) = block_on(made).unwrap();
    (format!("Bearer {token}"), made.token_id)
}

#[test]
fn a_page_of_another_site_may_read_nothing_and_do_nothing() {
    let world = world(&[]);
    let here = ("host", "127.0.0.1:8787");
    let evil = ("origin", "https://evil.example");
    let post = |headers: &[(&str, &str)]| status::<Sync>(&world, head("POST", "/sync/p", headers));
    assert_eq!(post(&[here]), 200);
    assert_eq!(post(&[here, evil]), 403);
    // Such a page may send a token that is not of this server, which changes nothing.
    assert_eq!(
        post(&[here, evil, ("authorization", "Bearer made up")]),
        403
    );
    assert_eq!(post(&[here, ("sec-fetch-site", "cross-site")]), 403);
    let get =
        |path: &str, headers: &[(&str, &str)]| status::<Sync>(&world, head("GET", path, headers));
    assert_eq!(get("/sync/p", &[("host", "evil.example:8787")]), 403);
    assert_eq!(get("/sync/p", &[here, evil]), 403);
    // A page that shows a picture names no origin, and reads nothing. It does not make a project, either.
    let shown = ("sec-fetch-site", "cross-site");
    assert_eq!(get("/sync/p", &[here, shown]), 200);
    assert_eq!(get("/sync/q", &[here, shown]), 404);
    assert_eq!(get("/sync/q", &[here]), 200);
}

/// A browser sends no bearer token on its own, and a page on a foreign name has no cookie of ours, so such a page
/// endangers only callers that need no credentials.
#[test]
fn a_foreign_name_keeps_out_only_callers_without_credentials() {
    let evil = ("origin", "https://evil.example");
    let foreign = ("host", "evil.example:8787");
    let token = ("authorization", "Bearer trusted");
    let trusted = ("agent_token", "trusted");
    for (settings, headers, expected) in [
        (&[trusted][..], &[foreign][..], 403),
        (&[trusted], &[foreign, token], 200),
        (&[trusted], &[foreign, evil, token], 200),
        (&[trusted, AUTH], &[foreign], 401),
        (&[trusted, AUTH], &[foreign, token], 200),
        (&[trusted, AUTH], &[("host", "127.0.0.1:8787"), evil], 403),
    ] {
        let world = world(settings);
        let get = head("GET", "/tasks", headers);
        assert_eq!(
            status::<Tasks>(&world, get),
            expected,
            "{settings:?} {headers:?}"
        );
    }
    // A name that cannot be read is refused without advice to let it in.
    let world = world(&[]);
    let reply = answer::<Tasks>(&world, head("GET", "/tasks", &[("host", "evil.example:x")]));
    let told = String::from_utf8_lossy(reply.content().unwrap_or_default());
    assert_eq!(reply.status(), 403);
    assert!(!told.contains("SPIN_VARIABLE"), "{told}");
}

#[test]
fn a_caller_that_cannot_be_known_is_refused() {
    let world = world(&[AUTH]);
    let get = |headers: &[(&str, &str)]| status::<Tasks>(&world, head("GET", "/tasks", headers));
    assert_eq!(get(&[]), 401);
    // Sessions cannot be checked, because the auth server does not answer.
    assert_eq!(get(&[("cookie", "a=b")]), 503);
    // A token that is not valid is refused, even with a cookie.
    let both = [("cookie", "a=b"), ("authorization", "Bearer lst_x_y")];
    assert_eq!(get(&both), 401);
    assert_eq!(status::<Sync>(&world, head("GET", "/health", &[])), 200);
}

#[test]
fn every_route_asks_for_what_it_needs() {
    let settings = [AUTH, ("internal_token", "t"), ("agent_token", "trusted")];
    let world = world(&settings);
    make_project(&world, "a");
    let (write, _) = make_token(&world, Role::Write, None);
    let (read, _) = make_token(&world, Role::Read, None);
    let callers = [
        None,
        Some(read.as_str()),
        Some(&write),
        Some("Bearer trusted"),
        Some("Bearer t"),
    ];
    for spec in routes::ALL.iter().copied().flatten() {
        let path = spec
            .path
            .replace("{project}", "p")
            .replace(['{', '}', '.'], "");
        let statuses = callers.map(|caller| {
            let authorization = caller.map(|caller| ("authorization", caller));
            let headers: Vec<_> = authorization.into_iter().collect();
            status_of(&world, spec, head(spec.method, &path, &headers))
        });
        let expected = match (spec.need, spec.project_source) {
            (Need::Nothing | Need::Signature, _) => [200, 200, 200, 200, 200],
            (Need::Relay, _) => [401, 401, 401, 401, 200],
            // The component checks the role in the row's project.
            (Need::Principal, _) | (_, ProjectSource::FromRow) => [401, 200, 200, 200, 401],
            (Need::Read, _) => [401, 200, 200, 200, 401],
            (Need::Write, _) => [401, 403, 200, 200, 401],
            (Need::Own | Need::OwnOrSelf, _) => [401, 403, 403, 200, 401],
        };
        assert_eq!(statuses, expected, "{} {}", spec.method, spec.path);
    }
}

fn status_of(world: &World, spec: &Spec, head: Head) -> u16 {
    match spec.component {
        "sync" => status::<Sync>(world, head),
        "projects" => status::<Projects>(world, head),
        "tasks" => status::<Tasks>(world, head),
        "webhooks" => status::<routes::Webhooks>(world, head),
        "poller" => status::<routes::Poller>(world, head),
        "console" => status::<Console>(world, head),
        new => panic!("the component {new} has no routes here"),
    }
}

#[test]
fn members_may_leave_but_remove_no_other() {
    let world = world(&[]);
    let ports = world.ports();
    make_project(&world, "ann");
    // In a development every caller is user `dev`.
    let read = projects::set_member(ports.database, ports.clock, "p", "dev", Role::Read);
    block_on(read).unwrap();
    let delete = |user| {
        let path = format!("/projects/p/members/{user}");
        status::<Projects>(&world, head("DELETE", &path, &[]))
    };
    assert_eq!((delete("dev"), delete("bob")), (200, 403));
    let put = head("PUT", "/projects/p/members/dev", &[]);
    assert_eq!(status::<Projects>(&world, put), 403);
}

#[test]
fn an_internal_route_reveals_nothing_without_the_token() {
    let world = world(&[("internal_token", "t")]);
    let with = [("authorization", "Bearer t")];
    let get =
        |path: &str, headers: &[(&str, &str)]| status::<Sync>(&world, head("POST", path, headers));
    assert_eq!(get("/internal/append", &[]), 401);
    for path in ["/internal/nothing", "/internal/", "/internal"] {
        assert_eq!(get(path, &[]), 401, "{path}");
    }
    assert_eq!(get("/internals", &[]), 404);
    assert_eq!(get("/internal/nothing", &with), 404);
    assert_eq!(get("/internal/append", &with), 200);
    let options = head("OPTIONS", "/internal/append", &with);
    assert_eq!(status::<Sync>(&world, options), 405);
    // An internal answer has no headers for browsers.
    let internal = answer::<Sync>(&world, head("POST", "/internal/append", &with));
    assert_eq!(internal.status(), 200);
    assert_eq!(header(&internal, "vary"), None);
}

#[test]
fn nothing_is_served_while_a_setting_is_missing() {
    let world = world(&[("environment", "production"), ("internal_token", "t")]);
    let with = [("authorization", "Bearer t")];
    for (method, path, expected) in [
        ("GET", "/sync/p", 503),
        ("OPTIONS", "/sync/p", 503),
        ("POST", "/internal/append", 503),
        // The answers of these two routes say what is missing.
        ("GET", "/health", 200),
        ("POST", "/internal/access", 200),
    ] {
        let status = status::<Sync>(&world, head(method, path, &with));
        assert_eq!(status, expected, "{method} {path}");
    }
    assert_eq!(status::<Console>(&world, head("GET", "/", &[])), 503);
    let heard = admit::admit_message(world.ports(), b"m".to_vec());
    assert_eq!(heard.err().map(|problem| problem.status()), Some(503));
}

#[test]
fn a_message_is_let_in_with_the_ports() {
    let world = world(&[]);
    let admitted = admit::admit_message(world.ports(), b"m".to_vec()).unwrap();
    assert_eq!(admitted.route(), &Message(b"m".to_vec()));
    assert!(block_on(admitted.check_again()).is_ok());
    assert_eq!(block_on(admitted.body(9)).unwrap_err().status(), 400);
    assert!(admitted.principal().is_err());
}

#[test]
fn a_setting_that_cannot_be_read_opens_no_door() {
    let trusted = ("agent_token", "trusted");
    for (unreadable, settings) in [
        ("better_auth_origin", &[][..]),
        ("agent_token", &[AUTH, trusted]),
        ("auto_create_projects", &[]),
        ("environment", &[]),
    ] {
        let config = MapConfig::from_pairs(settings).with_unreadable(unreadable);
        let world = World::new(config);
        let authorization = ("authorization", "Bearer trusted");
        let headers: &[_] = if unreadable == "agent_token" {
            &[authorization]
        } else {
            &[]
        };
        let get = head("GET", "/sync/p", headers);
        assert_eq!(status::<Sync>(&world, get), 503, "{unreadable}");
    }
}

#[test]
fn the_trusted_backend_may_do_everything() {
    let world = world(&[AUTH, ("agent_token", "trusted")]);
    let post = |token| {
        let head = head("POST", "/projects", &[("authorization", token)]);
        answer::<Projects>(&world, head)
    };
    let trusted = post("Bearer trusted");
    assert_eq!(trusted.status(), 200);
    assert_eq!(header(&trusted, PRINCIPAL), Some("server"));
    assert_eq!(post("Bearer truste").status(), 401);
}

#[test]
fn access_is_checked_again_once_the_body_is_in() {
    let world = world(&[AUTH]);
    make_project(&world, "a");
    let ports = world.ports();
    for what in ["kept", "revoked", "expired", "deleted"] {
        let end = (what == "expired").then_some(100);
        let (token, token_id) = make_token(&world, Role::Write, end);
        let seen = RefCell::new(None);
        let late = async |admitted: Admitted<'_, Sync>| {
            // This happens while the body is on its way.
            match what {
                "revoked" => assert!(tokens::revoke(ports.database, "p", &token_id).await?),
                "expired" => world.clock.0.set(100),
                "deleted" => assert!(projects::delete(ports.database, ports.clock, "p").await?),
                _ => {}
            }
            let body = admitted.body(9).await;
            seen.replace(Some(body.map_err(|problem| problem.status())));
            Ok(Reply::new(200))
        };
        let head = head("POST", "/sync/p", &[("authorization", &token)]);
        block_on(visit::<Sync>(
            ports,
            Arrival::at::<Sync>(head, body(b"late")),
            HEADERS,
            late,
        ));
        let expected = match what {
            "kept" => Ok(b"late".to_vec()),
            "deleted" => Err(404),
            _ => Err(401),
        };
        assert_eq!(seen.take(), Some(expected), "{what}");
    }
}

#[test]
fn a_member_who_may_only_read_now_writes_nothing() {
    let world = world(&[]);
    let ports = world.ports();
    make_project(&world, "ann");
    let set = |role| projects::set_member(ports.database, ports.clock, "p", "dev", role);
    block_on(set(Role::Write)).unwrap();
    let seen = Cell::new(0);
    let late = async |admitted: Admitted<'_, Sync>| {
        set(Role::Read).await?;
        seen.set(admitted.body(9).await.unwrap_err().status());
        Ok(Reply::new(200))
    };
    let head = head("POST", "/sync/p", &[]);
    block_on(visit::<Sync>(
        ports,
        Arrival::at::<Sync>(head, body(b"late")),
        HEADERS,
        late,
    ));
    assert_eq!(seen.get(), 403);
}

#[test]
fn a_handler_gets_the_request_and_the_address_of_its_caller() {
    let world = world(&[("public_url", "http://127.0.0.1:8787")]);
    let handler = async |admitted: Admitted<'_, Tasks>| {
        let (head, base) = (admitted.head(), admitted.base());
        let body = format!("{} {:?} {base}", head.path(), head.parameter("cursor"));
        Ok(Reply::new(200).body(body))
    };
    let head = head("GET", "/tasks?cursor=c", &[("host", "box.local:8787")]);
    let arrival = Arrival::at::<Tasks>(head, body(b""));
    let reply = block_on(visit(world.ports(), arrival, HEADERS, handler));
    let told = String::from_utf8_lossy(reply.content().unwrap_or_default());
    assert_eq!(told, "/tasks Some(\"c\") http://box.local:8787");
}

#[test]
fn a_location_is_below_the_path_of_the_proxy() {
    for (prefix, location) in [(None, "/assets/a"), (Some("/canvas"), "/canvas/assets/a")] {
        let public = ("public_url", "http://127.0.0.1:8787");
        let world = world(&[("agent_token", "trusted"), public]);
        let mut headers = vec![
            ("x-forwarded-host", "h.example"),
            ("authorization", "Bearer trusted"),
        ];
        headers.extend(prefix.map(|prefix| ("x-forwarded-prefix", prefix)));
        let handler = async |admitted: Admitted<'_, Tasks>| {
            Ok(Reply::new(201).body(admitted.location("/assets/a")))
        };
        let head = head("GET", "/tasks", &headers);
        let arrival = Arrival::at::<Tasks>(head, body(b""));
        let reply = block_on(visit(world.ports(), arrival, HEADERS, handler));
        assert_eq!(reply.content(), Some(location.as_bytes()), "{prefix:?}");
    }
}

#[test]
fn a_host_limits_the_bodies_that_not_every_host_takes() {
    const MIB: usize = 1024 * 1024;
    let world = world(&[("max_body_mib", "2")]);
    let read = |declared: Option<usize>, sent: usize| {
        let status = Cell::new(0);
        let handler = async |admitted: Admitted<'_, Projects>| {
            let read = admitted.body(8 * MIB).await;
            status.set(read.map_or_else(|problem| problem.status(), |_| 200));
            Ok(Reply::new(200))
        };
        let chunks: Chunks<'_> = Box::pin(stream::iter([Ok(vec![0; sent])]));
        let body = Body { declared, chunks };
        let arrival = Arrival::at::<Projects>(head("POST", "/projects", &[]), body);
        block_on(visit(world.ports(), arrival, HEADERS, handler));
        status.get()
    };
    for (bytes, expected) in [(MIB, 200), (2 * MIB, 200), (2 * MIB + 1, 413)] {
        assert_eq!(read(Some(bytes), bytes), expected, "{bytes}");
        assert_eq!(read(None, bytes), expected, "{bytes}, not declared");
    }
}

#[test]
fn a_body_is_read_once_and_fields_are_an_object() {
    let world = world(&[]);
    for (bytes, fields) in [
        (&b""[..], Ok(0)),
        (b"{\"name\":\"n\"}", Ok(1)),
        (b"[]", Err(400)),
        (b"{", Err(400)),
        (&[b' '; 64 * 1024], Err(400)),
        (&[b' '; 64 * 1024 + 1], Err(413)),
    ] {
        let seen = Cell::new(None);
        let handler = async |admitted: Admitted<'_, Projects>| {
            assert!(matches!(admitted.principal()?, Principal::User { id, .. } if id == "dev"));
            let read = admitted.fields().await;
            seen.set(Some(
                read.map(|fields| fields.len()).map_err(|e| e.status()),
            ));
            assert_eq!(admitted.body(9).await.unwrap_err().status(), 400);
            Ok(Reply::new(200))
        };
        let head = head("POST", "/projects", &[]);
        let arrival = Arrival::at::<Projects>(head, body(bytes));
        let reply = block_on(visit(world.ports(), arrival, HEADERS, handler));
        assert_eq!(reply.status(), 200);
        assert_eq!(seen.get(), Some(fields), "{} bytes", bytes.len());
    }
}

#[test]
fn a_preflight_names_the_methods() {
    let world = world(&[("allowed_origins", "https://app.example")]);
    let origin = ("origin", "https://app.example");
    let allowed = answer::<Projects>(&world, head("OPTIONS", "/projects/p", &[origin]));
    assert_eq!((allowed.status(), allowed.content()), (204, None));
    let methods = "GET, HEAD, PATCH, DELETE";
    assert_eq!(header(&allowed, "allow"), Some(methods));
    let name = "access-control-allow-methods";
    assert_eq!(header(&allowed, name), Some(methods));
    let foreign = [("origin", "https://evil.example")];
    let deployment = [
        ("environment", "production"),
        AUTH,
        ("internal_token", "t"),
        ("webhook_key", "k"),
    ];
    let deployment = self::world(&deployment);
    let refused = answer::<Projects>(&deployment, head("OPTIONS", "/projects/p", &foreign));
    assert_eq!((refused.status(), header(&refused, name)), (204, None));
    let nowhere = head("OPTIONS", "/projects/p/q", &[]);
    assert_eq!(status::<Projects>(&world, nowhere), 404);
}

#[test]
fn every_public_answer_has_the_headers_of_the_door() {
    let world = world(&[("allowed_origins", "https://app.example")]);
    let origin = [("origin", "https://app.example")];
    for path in ["/tasks", "/nothing"] {
        let reply = answer::<Tasks>(&world, head("GET", path, &origin));
        assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&reply, "vary"), Some("origin"));
        let allowed = header(&reply, "access-control-allow-origin");
        assert_eq!(allowed, Some("https://app.example"), "{path}");
        assert_eq!(header(&reply, REFUSED_PAGE), None, "{path}");
    }
    let reply = answer::<Tasks>(&world, head("GET", "/tasks", &[]));
    assert_eq!(header(&reply, PRINCIPAL), Some("user:dev"));
    assert_eq!(header(&reply, "access-control-allow-origin"), None);
    assert_eq!(reply.content(), Some(&b"handled"[..]));
    // Answers of the door have the component's headers, too, but keep their own.
    for (method, path, kept) in [
        ("GET", "/tasks", "no-cache"),
        ("GET", "/nothing", "no-store"),
        ("PUT", "/tasks", "no-store"),
        ("OPTIONS", "/tasks", "no-cache"),
    ] {
        let reply = answer::<Tasks>(&world, head(method, path, &[]));
        assert_eq!(header(&reply, "x-component"), Some("c"), "{method} {path}");
        let headers = reply.headers().filter(|(name, _)| *name == "cache-control");
        assert_eq!(headers.collect::<Vec<_>>(), [("cache-control", kept)]);
    }
    let reply = answer::<Tasks>(&world, head("HEAD", "/tasks", &[]));
    assert_eq!((reply.status(), reply.content()), (200, None));
    // A page of another origin can read no answer, not even a refusal that has another reason.
    let get = head("GET", "/nothing", &[("origin", "https://other.example")]);
    let reply = answer::<Tasks>(&world, get);
    assert_eq!(reply.status(), 404);
    assert_eq!(header(&reply, "access-control-allow-origin"), None);
}

#[test]
fn a_developer_reads_what_lets_the_own_page_in() {
    let here = ("host", "127.0.0.1:8787");
    let origin = ("origin", "http://localhost:5173");
    let setting = "SPIN_VARIABLE_ALLOWED_ORIGINS=http://localhost:5173";
    let name = "access-control-allow-origin";
    for (settings, readable) in [
        (&[][..], true),
        (&[("environment", "production")][..], false),
    ] {
        let mut settings = settings.to_vec();
        if !readable {
            settings.extend([AUTH, ("internal_token", "t"), ("webhook_key", "k")]);
        }
        let world = world(&settings);
        let expected = readable.then_some("http://localhost:5173");
        for method in ["OPTIONS", "GET"] {
            let reply = answer::<Sync>(&world, head(method, "/sync/p", &[here, origin]));
            assert_eq!(header(&reply, name), expected, "{method}");
            let logged = header(&reply, REFUSED_PAGE).unwrap_or_default();
            assert!(logged.contains(setting), "{method}: {logged}");
        }
        let reply = answer::<Sync>(&world, head("GET", "/sync/p", &[here, origin]));
        assert_eq!(reply.status(), 403);
        let told = String::from_utf8_lossy(reply.content().unwrap_or_default());
        assert_eq!(told.contains(setting), readable, "{told}");
    }
    let tunnel = [
        ("host", "a.tunnel.example"),
        ("origin", "https://a.tunnel.example"),
    ];
    let unset = world(&[]);
    let reply = answer::<Sync>(&unset, head("GET", "/sync/p", &tunnel));
    let told = String::from_utf8_lossy(reply.content().unwrap_or_default());
    assert!(told.contains("foreign-host"), "{told}");
    let setting = "SPIN_VARIABLE_ALLOWED_ORIGINS=https://a.tunnel.example";
    assert!(told.contains(setting), "{told}");
    let let_in = world(&[("allowed_origins", "https://a.tunnel.example")]);
    assert_eq!(
        status::<Sync>(&let_in, head("GET", "/sync/p", &tunnel)),
        200
    );
}
