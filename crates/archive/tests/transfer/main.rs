//! A project that is exported to an archive and imported as another project.

#![allow(clippy::unwrap_used)]

mod broken_off;

use archive::{ImportError, Imported, back_up, export, import, restore};
use auth::{
    Role,
    projects::{self, NewProject, Project},
};
use futures_util::StreamExt;
use loro::{ExportMode, LoroDoc, LoroValue};
use platform::{
    Ports,
    native::{MapConfig, World, block_on},
};
use rooms::supervise::{self, MergeError, Merger};
use tasks::AssetStore;
use wire::{EncodedState, Job, Outcome, Update};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand more";

fn world(settings: &[(&str, &str)]) -> World {
    World::new(MapConfig::from_pairs(settings))
}

fn run(world: &World, sql: &str) {
    world.rows(sql);
}

fn count(world: &World, sql: &str) -> i64 {
    world.rows(sql)[0].integer(0).unwrap()
}

struct Here<'a>(Ports<'a>);

#[async_trait::async_trait(?Send)]
impl Merger for Here<'_> {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        let (database, clock) = (self.0.database, self.0.clock);
        let state = supervise::work(database, clock, project, job, self.memory()).await;
        state.map(EncodedState::from).map_err(MergeError::Failed)
    }
}

fn append(world: &World, project: &str, payload: Vec<u8>) {
    let ports = world.ports();
    let update = Update {
        project: project.into(),
        payload: payload.into(),
        serial: None,
    };
    let (database, clock, here) = (ports.database, ports.clock, Here(ports));
    let outcomes = rooms::append_surely(database, clock, &here, "test", vec![update]);
    let outcomes = block_on(outcomes).unwrap();
    assert!(
        matches!(outcomes[0], Outcome::Stored { .. }),
        "{outcomes:?}"
    );
}

/// Makes project `a` with a document of two updates, an asset, and two tasks, of which one is under way. Returns the id
/// of the asset.
fn fill(world: &World) -> String {
    let ports = world.ports();
    let new = NewProject {
        project_id: "a",
        name: "The \"first\" one",
        owner_id: "ada",
    };
    assert!(block_on(projects::create(ports.database, ports.clock, new)).unwrap());
    let upload = block_on(tasks::upload(ports, "a", PNG.to_vec())).unwrap();
    let document = LoroDoc::new();
    document.get_text("text").insert(0, "hello").unwrap();
    append(
        world,
        "a",
        document.export(ExportMode::all_updates()).unwrap(),
    );
    let before = document.oplog_vv();
    document
        .get_map("nodes")
        .insert("n", &*upload.path)
        .unwrap();
    append(
        world,
        "a",
        document.export(ExportMode::updates(&before)).unwrap(),
    );
    let path = &upload.path;
    run(
        world,
        &format!(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, external_task_id, external_service,
                 params, result_url, created_at, updated_at, completed_at, node_id, tags, seq, projected_status)
             VALUES ('task_1_done', 'a', 'demo', 'completed', 'job', 'demo', '{{\"image\":\"{path}\"}}',
                     '{path}', 1, 2, 3, 'n', '[\"x\"]', 1, 'completed'),
                    ('task_2_open', 'a', 'demo', 'processing', NULL, NULL, '{{}}', NULL, 4, 5, NULL, NULL, NULL, 2, NULL)"
        ),
    );
    upload.id
}

fn project(world: &World, id: &str) -> Project {
    let found = block_on(projects::get(world.ports().database, id));
    found.unwrap().unwrap()
}

fn exported(world: &World, id: &str) -> Vec<u8> {
    let project = project(world, id);
    block_on(async {
        let parts = export(world.ports(), &project).await;
        parts.unwrap().collect::<Vec<_>>().await.concat()
    })
}

fn backed_up(world: &World, id: &str) -> Vec<u8> {
    let project = project(world, id);
    block_on(async {
        let parts = back_up(world.ports(), &project).await;
        parts.unwrap().collect::<Vec<_>>().await.concat()
    })
}

fn imported(world: &World, project: &str, archive: &[u8]) -> Result<Imported, ImportError> {
    block_on(import(world.ports(), project, "grace", archive))
}

fn document(world: &World, project: &str) -> LoroValue {
    let state = rooms::updates_after(world.ports().database, project, 0);
    let document = LoroDoc::new();
    for blob in block_on(state).unwrap().blobs {
        document.import(&blob).unwrap();
    }
    document.get_deep_value()
}

/// The tasks of a project as their user sees them, without their ids.
fn tasks_of(world: &World, project: &str) -> Vec<String> {
    let rows = world.rows(&format!(
        "SELECT json_array(task_type, status, params, result_url, created_at, completed_at, node_id, tags,
             error_message) FROM aigc_tasks WHERE project_id = '{project}' ORDER BY seq"
    ));
    rows.into_iter()
        .map(|mut row| row.text(0).unwrap())
        .collect()
}

#[test]
fn another_server_has_the_same_document_tasks_and_assets() {
    let (first, second) = (world(&[]), world(&[]));
    let asset = fill(&first);
    let archive = exported(&first, "a");
    let told = imported(&second, "b", &archive).unwrap();
    assert_eq!(
        told,
        Imported {
            tasks: 2,
            assets: 1
        }
    );
    assert_eq!(document(&second, "b"), document(&first, "a"));
    let (before, after) = (tasks_of(&first, "a"), tasks_of(&second, "b"));
    assert_eq!(before[0], after[0]);
    assert!(
        after[1].contains("cancelled") && after[1].contains("was under way"),
        "{after:?}"
    );
    let ids = second.rows("SELECT group_concat(task_id) FROM aigc_tasks");
    assert_eq!(
        ids.into_iter().next().unwrap().text(0).unwrap(),
        "task_1_done,task_2_open"
    );
    let ports = second.ports();
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    // Nothing has named the asset for days.
    block_on(store.drop_leftovers(7 * 24 * 3600)).unwrap();
    let kept = block_on(store.read(&asset, None)).unwrap().unwrap();
    assert_eq!((kept.project_id.as_str(), &*kept.bytes), ("b", PNG));
    let project = project(&second, "b");
    assert_eq!(
        (project.name.as_str(), project.owner_id.as_str()),
        ("The \"first\" one", "grace")
    );
    // An archive of the copy can be imported, too.
    let again = exported(&second, "b");
    assert_eq!(imported(&second, "c", &again).unwrap(), told);
    assert_eq!(document(&second, "c"), document(&first, "a"));
}

/// The first parts of the archive are enough here, because the whole has more than 8 GiB.
#[test]
fn an_asset_of_more_than_eight_gib_is_in_the_archive() {
    let world = world(&[]);
    let id = fill(&world);
    run(&world, "UPDATE assets SET length = 8589934593");
    let project = project(&world, "a");
    let first = block_on(async {
        let parts = export(world.ports(), &project).await.unwrap();
        parts.take(5).collect::<Vec<_>>().await.concat()
    });
    let name = format!("assets/{id}\0");
    let mut blocks = first.chunks_exact(512);
    let header = blocks.find(|block| block.starts_with(name.as_bytes()));
    let size = &header.unwrap()[124..136];
    assert_eq!(size, b"\x80\0\0\0\0\0\0\x02\0\0\0\x01");
}

#[test]
fn an_archive_breaks_off_at_a_name_that_is_too_long() {
    let world = world(&[]);
    fill(&world);
    let long = "x".repeat(100);
    run(
        &world,
        &format!("UPDATE aigc_tasks SET task_id = '{long}' WHERE task_id = 'task_2_open'"),
    );
    let refused = imported(&world, "b", &exported(&world, "a")).unwrap_err();
    assert!(refused.to_string().contains("cut off"), "{refused}");
}

/// The updates in quarantine are copied, stay out of the document, and can be restored by the new owner.
#[test]
fn updates_in_quarantine_stay_in_quarantine() {
    let (first, second) = (world(&[]), world(&[]));
    fill(&first);
    run(
        &first,
        "INSERT INTO loro_quarantine VALUES ('a', 7, x'0102', 'r1', 3, 4, 'It is odd.'),
                                            ('a', 9, x'', 'r2', 5, 6, ''), ('other', 1, x'03', 'r', 0, 0, '')",
    );
    imported(&second, "b", &exported(&first, "a")).unwrap();
    assert_eq!(document(&second, "b"), document(&first, "a"));
    let database = second.ports().database;
    let found = block_on(rooms::quarantined(database, "b", 0, 9)).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|update| {
            let times = (update.created_at, update.quarantined_at);
            (update.origin.as_str(), times, update.reason.as_str())
        })
        .collect();
    assert_eq!(told, [("r1", (3, 4), "It is odd."), ("r2", (5, 6), "")]);
    let [one, two] = [found[0].rev, found[1].rev];
    let payload = |rev| block_on(rooms::quarantined_update(database, "b", rev)).unwrap();
    assert_eq!(payload(one), Some(vec![1, 2]));
    assert_eq!(payload(two), Some(vec![]));
    // No other update gets their revs, because two updates of one rev could not both be in quarantine.
    let update = LoroDoc::new();
    update.get_text("text").insert(0, "more").unwrap();
    append(
        &second,
        "b",
        update.export(ExportMode::all_updates()).unwrap(),
    );
    let revs = "SELECT count(*) FROM loro_updates WHERE project_id = 'b' AND length(payload) > 0 AND rev IN
                    (SELECT rev FROM loro_quarantine WHERE project_id = 'b')";
    assert_eq!(count(&second, revs), 0);
    let head = block_on(rooms::restore(database, second.ports().clock, "b", one)).unwrap();
    assert!(head.unwrap() > two);
}

#[test]
fn beside_its_origin_a_project_has_assets_and_tasks_of_its_own() {
    let world = world(&[]);
    let asset = fill(&world);
    imported(&world, "b", &exported(&world, "a")).unwrap();
    assert_eq!(document(&world, "b"), document(&world, "a"));
    let ports = world.ports();
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    let copy = |user: Option<&str>, project: Option<&str>| {
        block_on(store.copy_for(&asset, user, project)).unwrap()
    };
    let id = copy(Some("grace"), None).unwrap();
    assert_ne!(id, asset);
    assert_eq!(copy(None, Some("b")).as_ref(), Some(&id));
    for (user, project) in [(Some("ada"), None), (None, Some("a")), (Some(""), None)] {
        assert_eq!(copy(user, project), None);
    }
    let kept = block_on(store.read(&id, None)).unwrap().unwrap();
    assert_eq!((kept.project_id.as_str(), &*kept.bytes), ("b", PNG));
    let tasks = tasks_of(&world, "b");
    assert!(
        tasks[0].contains(&id) && !tasks[0].contains(&asset),
        "{tasks:?}"
    );
    assert_eq!(
        count(&world, "SELECT count(DISTINCT task_id) FROM aigc_tasks"),
        4
    );
    // The document of the copy knows the tasks by their first ids, so nothing is written into it.
    let unprojected =
        "SELECT count(*) FROM aigc_tasks WHERE project_id = 'b' AND projected_status IS NULL";
    assert_eq!(count(&world, unprojected), 0);
    block_on(store.delete("b")).unwrap();
    assert_eq!(count(&world, "SELECT count(*) FROM asset_copies"), 0);
    assert!(block_on(store.describe(&asset)).unwrap().is_some());
}

/// The owner and the members come back from a backup, and never from a user's export.
#[test]
fn a_backup_has_the_owner_and_the_members() {
    let (first, second) = (world(&[]), world(&[]));
    fill(&first);
    let ports = first.ports();
    for (user, role) in [("bob", Role::Read), ("eve", Role::Write)] {
        let set = projects::set_member(ports.database, ports.clock, "a", user, role);
        block_on(set).unwrap();
    }
    let refused = block_on(restore(second.ports(), "a", &exported(&first, "a")));
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("names no owner"), "{words}");
    assert_eq!(count(&second, "SELECT count(*) FROM projects"), 0);

    let archive = backed_up(&first, "a");
    block_on(restore(second.ports(), "a", &archive)).unwrap();
    assert_eq!(document(&second, "a"), document(&first, "a"));
    assert_eq!(tasks_of(&second, "a")[0], tasks_of(&first, "a")[0]);
    assert_eq!(project(&second, "a").owner_id, "ada");
    let members = block_on(projects::members(second.ports().database, "a")).unwrap();
    let members: Vec<_> = members
        .iter()
        .map(|member| (member.user_id.as_str(), member.role))
        .collect();
    assert_eq!(members, [("bob", Role::Read), ("eve", Role::Write)]);
    // A user who imports it owns it alone.
    imported(&second, "b", &archive).unwrap();
    assert_eq!(project(&second, "b").owner_id, "grace");
    let members = block_on(projects::members(second.ports().database, "b"));
    assert_eq!(members.unwrap(), []);
}

/// The archive has more tasks than one statement takes. They keep their order, and those whose ids are taken get new
/// ids.
#[test]
fn many_tasks_keep_their_order() {
    let (first, second) = (world(&[]), world(&[]));
    fill(&first);
    run(
        &first,
        "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, error_message, created_at,
             updated_at, seq, projected_status)
         WITH RECURSIVE n (n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM n WHERE n < 250)
         SELECT 'task_' || n, 'a', 'fal:fal-ai/flux/dev', 'failed', json_object('n', n), 'it''s \"no\"', 5, 5, n, 'failed'
           FROM n",
    );
    run(
        &second,
        "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at)
         VALUES ('task_7', 'other', 'demo', 'failed', '{}', 1, 1)",
    );
    let archive = exported(&first, "a");
    assert_eq!(imported(&second, "b", &archive).unwrap().tasks, 250);
    let (before, after) = (tasks_of(&first, "a"), tasks_of(&second, "b"));
    assert_eq!(before[2..], after[2..]);
    let same =
        "SELECT count(*) FROM aigc_tasks WHERE project_id = 'b' AND task_id = 'task_' || seq";
    assert_eq!(count(&second, same), 247);
    let first_again =
        "SELECT count(*) FROM aigc_tasks WHERE task_id = 'task_7' AND project_id = 'other'";
    assert_eq!(count(&second, first_again), 1);
}

/// The updates whose dependencies no client has sent yet are in the archive, even if they overlap with others.
#[test]
fn an_update_that_waits_for_others_still_waits() {
    let (first, second) = (world(&[]), world(&[]));
    fill(&first);
    let writer = LoroDoc::new();
    let mut versions = vec![writer.oplog_vv()];
    for n in 0..4 {
        writer.get_text("text").insert(n, "a").unwrap();
        writer.commit();
        versions.push(writer.oplog_vv());
    }
    let after = |n: usize| writer.export(ExportMode::updates(&versions[n])).unwrap();
    for n in [3, 2, 1] {
        append(&first, "a", after(n));
    }
    imported(&second, "b", &exported(&first, "a")).unwrap();
    let before = document(&second, "b");
    assert_eq!(before, document(&first, "a"));
    for (world, project) in [(&first, "a"), (&second, "b")] {
        append(world, project, after(0));
    }
    let whole = document(&second, "b");
    assert_eq!(whole, document(&first, "a"));
    assert_ne!(whole, before);
}

/// A refused archive stores nothing, and the id stays free.
#[test]
fn a_broken_or_hostile_archive_is_refused() {
    let (first, second) = (world(&[]), world(&[]));
    fill(&first);
    let archive = exported(&first, "a");
    let refused = |archive: &[u8]| {
        let error = imported(&second, "b", archive).unwrap_err();
        assert!(matches!(error, ImportError::Archive(_)), "{error}");
        assert_eq!(count(&second, "SELECT count(*) FROM projects"), 0);
    };
    for length in (0..archive.len()).step_by(101) {
        refused(&archive[..length]);
    }
    // Changes of the same length leave the headers valid.
    let text = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = archive
            .windows(from.len())
            .position(|part| part == from.as_bytes());
        let mut changed = archive.clone();
        changed[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        changed
    };
    for (from, to) in [
        ("\"format\":1", "\"format\":2"),
        ("and more", "AND MORE"),
        ("\"status\":\"completed\"", "\"status\":\"forgotten\""),
        ("\"task_id\":\"task_1_done\"", "\"task_id\":\"../1/../../\""),
        ("\"result_url\":\"/assets/a", "\"result_url\":\"/../../.."),
        ("\"params\":\"{}\"", "\"params\":\"[]\""),
        ("\0loro", "\0lora"),
    ] {
        refused(&text(from, to));
    }
    refused(b"");
    refused(&[0; 1024]);
    imported(&second, "b", &archive).unwrap();
    assert!(matches!(
        imported(&second, "b", &archive),
        Err(ImportError::Taken)
    ));
}

#[test]
fn the_quota_of_the_owner_holds() {
    let (first, second) = (world(&[]), world(&[("project_quota_mib", "1")]));
    fill(&first);
    let mut film = b"\0\0\0\x18ftypisom".to_vec();
    film.resize(2 << 20, 7);
    block_on(tasks::upload(first.ports(), "a", film)).unwrap();
    let error = imported(&second, "b", &exported(&first, "a")).unwrap_err();
    assert!(matches!(error, ImportError::Quota(_)), "{error}");
    broken_off::assert_empty(&second, "the quota is used up");
    // The id is free.
    let small = world(&[]);
    fill(&small);
    imported(&second, "b", &exported(&small, "a")).unwrap();
}

/// The owner's quota holds for the sum of all imports, even within a minute.
#[test]
fn the_quota_of_the_owner_counts_imports() {
    let (first, second) = (world(&[]), world(&[("owner_quota_mib", "1")]));
    fill(&first);
    let mut film = b"\0\0\0\x18ftypisom".to_vec();
    film.resize(600 << 10, 7);
    block_on(tasks::upload(first.ports(), "a", film)).unwrap();
    let archive = exported(&first, "a");
    imported(&second, "b", &archive).unwrap();
    for pause in [0, 61] {
        let now = second.ports().clock.unix_seconds();
        second.clock.0.set(now + pause);
        let error = imported(&second, "c", &archive).unwrap_err();
        assert!(matches!(error, ImportError::Quota(_)), "{error}");
        assert_eq!(count(&second, "SELECT count(*) FROM projects"), 1);
    }
}
