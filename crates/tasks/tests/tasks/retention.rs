//! The retention of data: it is deleted after the days for which an operator keeps it, and stays if something needs it.

use std::cell::{Cell, RefCell};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Method, Request, Response};
use platform::native::{AnswerWith, MapConfig, World, block_on};
use tasks::{AssetStore, OldAsset, Retention, upload};

use crate::fake::PIXEL;

const DAY: i64 = 24 * 3600;
const NOW: i64 = 20_000 * DAY;

const BUCKET: [(&str, &str); 5] = [
    ("s3_bucket", "b"),
    ("s3_endpoint", "https://s3.example"),
    ("s3_region", "auto"),
    ("s3_access_key", "a"),
    ("s3_secret_key", "s"),
];

fn world() -> World {
    let world = World::new(MapConfig::from_pairs(&[]));
    world.clock.0.set(NOW);
    world
}

fn pixel() -> Vec<u8> {
    BASE64_STANDARD.decode(PIXEL).unwrap()
}

fn count(world: &World, sql: &str) -> usize {
    world.rows(sql).len()
}

/// Stores a task of this project that ended at this time, and that its document shows.
fn ended(world: &World, id: &str, project: &str, at: i64) {
    world.rows(&format!(
        "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at,
             completed_at, projected_status, seq)
         VALUES ('{id}', '{project}', 'demo', 'completed', '{{}}', 7, 7, {at}, 'completed', 5)"
    ));
}

#[test]
fn a_task_that_ended_long_ago_is_deleted_unless_something_waits_for_it() {
    let kept = Retention {
        tasks: Some(10 * DAY),
        assets: None,
        quarantine: None,
    };
    let asset = "INSERT INTO assets (asset_id, project_id, media_type, length, digest, bytes, created_at, task_id, settle_at)
         VALUES ('asset_x', 'p', 'image/png', 1, '', x'01', 7, 'old', ";
    let unsettled = format!("{asset} 1)");
    let settled = format!("{asset} NULL)");
    let earlier = |project: &str, seq: i64, status: &str| {
        format!(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at, seq)
             VALUES ('other', '{project}', 'demo', '{status}', '{{}}', 7, 7, {seq})"
        )
    };
    for (case, age, change, is_deleted) in [
        ("long ago", 10 * DAY, "", true),
        ("not so long ago", 10 * DAY - 1, "", false),
        (
            "its document does not show it",
            10 * DAY,
            "UPDATE aigc_tasks SET projected_status = NULL",
            false,
        ),
        (
            "its agent is to be notified",
            10 * DAY,
            "UPDATE aigc_tasks SET notify_at = 7",
            false,
        ),
        ("its asset may be another's", 10 * DAY, &unsettled, false),
        ("its asset is its own", 10 * DAY, &settled, true),
        (
            "an earlier task is under way",
            10 * DAY,
            &earlier("p", 4, "processing"),
            false,
        ),
        (
            "an earlier one has ended",
            10 * DAY,
            &earlier("p", 4, "failed"),
            true,
        ),
        (
            "a later one is under way",
            10 * DAY,
            &earlier("p", 6, "pending"),
            true,
        ),
        (
            "a task of another project is under way",
            10 * DAY,
            &earlier("q", 4, "pending"),
            true,
        ),
    ] {
        let world = world();
        let database = world.ports().database;
        ended(&world, "old", "p", NOW - age);
        if !change.is_empty() {
            world.rows(change);
        }
        let for_good = Retention::of(&MapConfig::default());
        assert_eq!(block_on(for_good.drop_old_tasks(database, NOW)).unwrap(), 0);
        let deleted = block_on(kept.drop_old_tasks(database, NOW)).unwrap();
        assert_eq!(deleted, usize::from(is_deleted), "{case}");
        let sql = "SELECT 1 FROM aigc_tasks WHERE task_id = 'old'";
        assert_eq!(count(&world, sql), usize::from(!is_deleted), "{case}");
    }
    let world = world();
    for n in 0..70 {
        ended(&world, &format!("t{n}"), "p", 7);
    }
    for left in [6, 0] {
        block_on(kept.drop_old_tasks(world.ports().database, NOW)).unwrap();
        assert_eq!(count(&world, "SELECT 1 FROM aigc_tasks"), left);
    }
}

#[test]
fn a_document_needs_an_asset_that_it_names_in_any_form() {
    let asset = |id: &str, copy_of: Option<&str>| OldAsset {
        id: id.into(),
        copy_of: copy_of.map(str::to_owned),
    };
    for (asset, document, is_needed) in [
        (
            asset("asset_a", None),
            r#"{"url": "/assets/asset_a"}"#,
            true,
        ),
        (asset("asset_a.mp4", None), r#"{"id": "asset_a"}"#, true),
        (
            asset("asset_a", None),
            r#"{"url": "/assets/asset_b"}"#,
            false,
        ),
        (
            asset("asset_a", Some("asset_b")),
            r#"["asset_b.mp4"]"#,
            true,
        ),
        (asset("asset_a", Some("asset_b")), "{}", false),
    ] {
        assert_eq!(asset.is_in(document), is_needed, "{asset:?} {document}");
    }
}

#[test]
fn an_asset_is_looked_at_after_its_days_and_again_after_as_many() {
    let kept = 30 * DAY;
    let world = world();
    let ports = world.ports();
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    let put = |project: &str| block_on(upload(ports, project, pixel())).unwrap().id;
    let (needed, used, unneeded) = (put("p"), put("p"), put("p"));
    let other = put("q");
    world.rows(&format!(
        "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at)
         VALUES ('t', 'p', 'demo', 'completed', '[\"/assets/{used}\"]', 7, 7)"
    ));
    let claim = |now| block_on(store.claim_looks(now, kept)).unwrap();
    let old = |project: &str, now| {
        let old = block_on(store.old(project, now, kept)).unwrap();
        let mut ids: Vec<String> = old.into_iter().map(|one| one.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(claim(NOW + kept - 1), [""; 0]);
    let due = NOW + kept;
    assert_eq!(claim(due), ["p", "q"], "each project once");
    // An instance that dies leaves the looks to a later day.
    assert_eq!(claim(due + DAY - 1), [""; 0]);
    assert_eq!(claim(due + DAY), ["p", "q"]);
    let now = due + DAY;
    let mut both = [needed.clone(), unneeded.clone()];
    both.sort_unstable();
    assert_eq!(old("p", now), both, "no task refers to these");
    assert_eq!(old("q", now), [other.as_str()]);
    assert_eq!(old("p", NOW + kept - 1), [""; 0], "it is not so old");

    block_on(store.still_needed(&needed, now)).unwrap();
    // The document has changed since it was read at its rev 6.
    let head = |_: &str| "7".to_owned();
    for (rev, is_removed) in [(6, false), (7, true), (7, false)] {
        let removed = block_on(store.remove(&unneeded, rev, head)).unwrap();
        assert_eq!(removed, is_removed, "{rev}");
    }
    assert!(!block_on(store.remove(&used, 7, head)).unwrap());
    block_on(store.finish_removals(now)).unwrap();
    let is_kept = |id: &str| block_on(store.read(id, None)).unwrap().is_some();
    assert_eq!(
        [&needed, &used, &unneeded, &other].map(|id| is_kept(id)),
        [true, true, false, true]
    );
    assert_eq!(count(&world, "SELECT 1 FROM asset_removals"), 0);
    // The asset that is needed has as many days again, and the look at the other project's asset is due a day later.
    assert_eq!(claim(now + DAY), ["q"]);
    assert_eq!(claim(now + kept), ["p", "q"]);
}

#[test]
fn an_object_that_the_bucket_does_not_delete_is_tried_again() {
    let world = world();
    let config = MapConfig::from_pairs(&BUCKET);
    let status = Cell::new(200);
    let deleted = RefCell::new(Vec::new());
    let http = AnswerWith(|request: Request<Vec<u8>>| {
        if *request.method() == Method::DELETE {
            deleted.borrow_mut().push(request.uri().path().to_owned());
        }
        let answer = Response::builder().status(status.get());
        Ok(answer.body(Vec::new()).unwrap())
    });
    let ports = platform::Ports {
        http: &http,
        config: &config,
        ..world.ports()
    };
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    let in_database = block_on(upload(world.ports(), "p", pixel())).unwrap().id;
    for (answer, is_left) in [(403, true), (404, false), (204, false)] {
        status.set(200);
        let id = block_on(upload(ports, "p", pixel())).unwrap().id;
        deleted.borrow_mut().clear();
        let head = |_: &str| "0".to_owned();
        assert!(block_on(store.remove(&id, 0, head)).unwrap());
        status.set(answer);
        block_on(store.finish_removals(NOW)).unwrap();
        assert_eq!(*deleted.borrow(), [format!("/b/{id}")], "{answer}");
        let left = count(&world, "SELECT 1 FROM asset_removals");
        assert_eq!(left, usize::from(is_left), "{answer}");
        status.set(204);
        block_on(store.finish_removals(NOW)).unwrap();
        assert_eq!(count(&world, "SELECT 1 FROM asset_removals"), 0);
    }
    // The bucket is not asked about an asset that the database holds.
    deleted.borrow_mut().clear();
    assert!(block_on(store.remove(&in_database, 0, |_| "0".to_owned())).unwrap());
    block_on(store.finish_removals(NOW)).unwrap();
    assert_eq!(*deleted.borrow(), [""; 0]);
    assert_eq!(count(&world, "SELECT 1 FROM assets"), 0);
}

/// A user reports: "I exported my project and imported it beside the first."
#[test]
fn an_imported_project_has_copies_of_the_assets_whose_ids_are_taken() {
    let world = world();
    let ports = world.ports();
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    for (project, owner) in [("p", "ann"), ("q", "bea"), ("r", "")] {
        world.rows(&format!(
            "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at)
             VALUES ('{project}', '', '{owner}', 7, 7)"
        ));
    }
    let film = b"\0\0\0\x18ftypisom".to_vec();
    let adopt = |id: &str, project: &str| {
        let of = (project, Some("t"));
        block_on(store.adopt(id, of, "video/mp4", film.clone(), NOW)).unwrap()
    };
    let id = format!("asset_{}.mp4", "a1".repeat(16));
    assert_eq!(adopt(&id, "p"), id);
    let copy = adopt(&id, "q");
    assert!(copy != id && copy.ends_with(".mp4"), "{copy}");
    adopt(&id, "r");
    // The copy stays, although no task refers to it.
    block_on(store.drop_leftovers(NOW + 7 * DAY)).unwrap();
    let read = |id: &str| block_on(store.read(id, None)).unwrap().unwrap();
    assert_eq!(
        (read(&id).project_id, read(&copy).bytes),
        ("p".into(), film.clone())
    );
    for (user, project, found) in [
        (Some("bea"), None, true),
        (None, Some("q"), true),
        (Some("bea"), Some("q"), true),
        (Some("ann"), None, false),
        (Some("bea"), Some("p"), false),
        // A project that is just being imported has no members yet.
        (None, Some("r"), false),
    ] {
        let found_copy = block_on(store.copy_for(&id, user, project)).unwrap();
        let expected = found.then(|| copy.clone());
        assert_eq!(found_copy, expected, "{user:?} {project:?}");
    }
    block_on(store.delete("q")).unwrap();
    assert_eq!(
        block_on(store.copy_for(&id, None, Some("q"))).unwrap(),
        None
    );
}
