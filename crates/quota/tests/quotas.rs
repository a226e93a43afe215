//! Tests counting, and what a count changes.

#![allow(clippy::unwrap_used)]

use platform::{
    Value,
    native::{MapConfig, World, block_on},
};
use quota::{BYTES_OF_OPERATION, QuotaError, ROOM_BYTES};

const MIB: u64 = 1 << 20;

/// Makes two projects of an owner who may keep 3 MiB. Each project may keep 2 MiB.
fn world() -> World {
    let settings = [("project_quota_mib", "2"), ("owner_quota_mib", "3")];
    let world = World::new(MapConfig::from_pairs(&settings));
    for project in ["p", "q"] {
        let sql = "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at)
                   VALUES (?1, '', 'o', 0, 0)";
        run(&world, sql, vec![project.into()]);
    }
    world.clock.0.set(1000);
    world
}

fn run(world: &World, sql: &str, parameters: Vec<Value>) {
    block_on(world.ports().database.execute(sql, parameters)).unwrap();
}

fn write(world: &World, project: &str, rev: u64, bytes: u64) {
    let sql = "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
               VALUES (?1, ?2, zeroblob(?3), '', 0)";
    run(world, sql, vec![project.into(), rev.into(), bytes.into()]);
}

fn store_asset(world: &World, project: &str, id: &str, bytes: u64) {
    let sql = "INSERT INTO assets (asset_id, project_id, media_type, length, digest, created_at)
               VALUES (?1, ?2, '', ?3, '', 0)";
    run(world, sql, vec![id.into(), project.into(), bytes.into()]);
}

fn count(world: &World, project: &str) {
    block_on(quota::count(world.ports(), project)).unwrap();
}

fn report(world: &World, project: &str) -> quota::Report {
    block_on(quota::report(world.ports(), project)).unwrap()
}

/// The holders that are full, each with the largest update that is still taken.
fn full(world: &World) -> Vec<(String, String, u64)> {
    let rows = world.rows("SELECT holder, code, largest FROM quota_full ORDER BY holder");
    let read = |mut row: platform::Row| {
        let (holder, code) = (row.text(0).unwrap(), row.text(1).unwrap());
        (holder, code, row.unsigned(2).unwrap())
    };
    rows.into_iter().map(read).collect()
}

fn later(world: &World, seconds: i64) {
    world.clock.0.set(world.clock.0.get() + seconds);
}

#[test]
fn a_project_is_full_at_its_quota_and_takes_small_updates_up_to_a_tenth_beyond() {
    let project = |largest| vec![("project:p".to_owned(), "quota".to_owned(), largest)];
    let world = world();
    for (rev, bytes, expected) in [
        (1, 2 * MIB - 1, vec![]),
        (2, 1, project(4096)),
        (3, 2 * MIB / 10 - 1, project(4096)),
        (4, 1, project(0)),
    ] {
        write(&world, "p", rev, bytes);
        count(&world, "p");
        assert_eq!(full(&world), expected, "{rev}");
    }
    let seen = report(&world, "p");
    assert_eq!(
        (seen.bytes, seen.bytes_allowed, seen.full, seen.nearly_full),
        (2 * MIB + 2 * MIB / 10, 2 * MIB, Some("quota"), true)
    );
    assert_eq!(report(&world, "q").full, None);
    // Once the project has shrunk, a recount finds that it is full no more, without a further edit.
    run(&world, "DELETE FROM loro_updates WHERE rev > 1", vec![]);
    block_on(quota::recount(world.ports())).unwrap();
    assert_eq!(full(&world), project(0), "it was counted a moment ago");
    later(&world, 61);
    block_on(quota::recount(world.ports())).unwrap();
    assert_eq!(full(&world), []);
}

#[test]
fn a_room_has_a_largest_size_whatever_the_quota() {
    let world = World::new(MapConfig::default());
    // The log counts twice, because a snapshot will hold state and history.
    write(&world, "p", 1, ROOM_BYTES / 100 * 40);
    assert!(report(&world, "p").nearly_full);
    assert_eq!(report(&world, "p").full, None);
    let sql = "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev)
               VALUES ('p', zeroblob(?1), x'', 0, 0)";
    run(&world, sql, vec![(ROOM_BYTES / 100 * 20 + 100).into()]);
    count(&world, "p");
    let expected = vec![("project:p".to_owned(), "room_full".to_owned(), 4096)];
    assert_eq!(full(&world), expected);
    assert_eq!(report(&world, "p").full, Some("room_full"));
    // The largest size of a document limits edits, not tasks.
    block_on(quota::take(world.ports(), "p", MIB)).unwrap();
}

#[test]
fn a_blob_counts_in_place_of_the_log_that_it_holds_and_each_operation_of_a_large_document() {
    let world = World::new(MapConfig::default());
    let snapshot = "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev)
                    VALUES ('p', zeroblob(1000), x'', 0, 1)";
    run(&world, snapshot, vec![]);
    let blob = "INSERT INTO loro_blobs (project_id, rev, blob, version, waiting, updated_at)
                VALUES ('p', 3, zeroblob(?1), x'', '[]', 0)";
    run(&world, blob, vec![40_u64.into()]);
    for rev in 2..=4 {
        write(&world, "p", rev, 100);
    }
    let bytes = || {
        count(&world, "p");
        report(&world, "p").document_bytes
    };
    assert_eq!(bytes(), 1000 + 2 * 40 + 2 * 100);
    run(
        &world,
        "INSERT INTO loro_operations VALUES ('p', 3, 7)",
        vec![],
    );
    assert_eq!(bytes(), 1000 + 2 * 40 + 2 * 100 + 7 * BYTES_OF_OPERATION);
    // A snapshot that holds all of the blob takes its place.
    run(&world, "UPDATE loro_snapshots SET rev = 3", vec![]);
    assert_eq!(bytes(), 1000 + 2 * 100 + 7 * BYTES_OF_OPERATION);
    assert_eq!(report(&world, "p").bytes, 1000 + 3 * 100);
}

#[test]
fn an_owner_is_full_with_all_projects_together() {
    let world = world();
    write(&world, "p", 1, 3 * MIB / 2);
    store_asset(&world, "q", "a", 3 * MIB / 2);
    count(&world, "p");
    count(&world, "q");
    assert_eq!(full(&world), [], "the owner was counted a moment ago");
    later(&world, 61);
    count(&world, "q");
    let expected = vec![("owner:o".to_owned(), "quota".to_owned(), 4096)];
    assert_eq!(full(&world), expected);
    assert_eq!(report(&world, "p").full, Some("quota"));
    run(
        &world,
        "UPDATE projects SET deleted_at = 1 WHERE project_id = 'q'",
        vec![],
    );
    later(&world, 61);
    block_on(quota::recount(world.ports())).unwrap();
    assert_eq!(full(&world), []);
    block_on(quota::forget(world.ports().database, "q")).unwrap();
    let left = world.rows("SELECT 1 FROM quota_usage WHERE holder = 'project:q'");
    assert!(left.is_empty());
}

#[test]
fn a_task_takes_its_bytes_before_the_next_count_finds_them() {
    let world = world();
    let take = |project: &str, bytes| block_on(quota::take(world.ports(), project, bytes));
    take("p", MIB).unwrap();
    take("p", MIB).unwrap();
    let refused = take("p", 1);
    assert!(
        matches!(&refused, Err(QuotaError::Exceeded(words)) if words.contains("2 of the 2 MiB"))
    );
    let problem = problem::Problem::from(refused.unwrap_err());
    assert_eq!(problem.status(), 507);
    assert!(
        problem.body().contains("urn:loro-sync:problem:quota"),
        "{}",
        problem.body()
    );
    take("q", MIB).unwrap();
    let refused = take("q", 1);
    assert!(matches!(&refused, Err(QuotaError::Exceeded(words)) if words.contains("The owner")));
    // In fact nothing was kept, so a minute later all of it is free again.
    later(&world, 61);
    take("p", 2 * MIB).unwrap();
}

#[test]
fn assets_and_tasks_are_counted_once_a_minute() {
    let world = world();
    count(&world, "p");
    store_asset(&world, "p", "a", MIB);
    count(&world, "p");
    assert_eq!(report(&world, "p").bytes, 0);
    later(&world, 61);
    assert_eq!(report(&world, "p").bytes, MIB);
    let sql = "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, result_data, created_at, updated_at)
               VALUES ('t', 'p', 'demo', 'completed', 'äö', 'abc', 0, 0)";
    run(&world, sql, vec![]);
    later(&world, 61);
    assert_eq!(report(&world, "p").bytes, MIB + 7);
}
