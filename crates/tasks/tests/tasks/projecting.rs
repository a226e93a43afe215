//! The tasks that a document may not show, the notes about those that it shows, and the order of changes.

use platform::native::{MapConfig, World, block_on};
use tasks::{
    Task, project_of_event,
    rows::{self, Changes, Projected, Shown},
};

const NOW: i64 = 1_700_000_000;

/// The newest rev of every room.
const HEAD: rows::HeadSql = |_| "5".to_owned();

fn world() -> World {
    let world = World::new(MapConfig::from_pairs(&[]));
    world.clock.0.set(NOW);
    world
}

/// Stores a task of a project for a node.
fn put(world: &World, id: &str, project: &str, node: &str, seq: i64) {
    world.rows(&format!(
        "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at, node_id, seq)
         VALUES ('{id}', '{project}', 'demo', 'pending', '{{}}', 7, 7, '{node}', {seq})"
    ));
}

fn get(world: &World, id: &str) -> Task {
    let found = block_on(rows::get(world.ports().database, id));
    found.unwrap().unwrap()
}

/// The tasks of a project that its document may not show: the id, whether a later one was posted for its node, whether
/// the node has shown the task, and whether a node was repaired.
fn unprojected(world: &World, project: &str) -> Vec<(String, bool, Option<bool>, bool)> {
    let found = rows::unprojected(world.ports().database, HEAD, project, NOW, 10);
    let found = block_on(found).unwrap();
    let told = found.into_iter().map(|one| {
        let shown = one.shown.map(|shown| shown.may_include("node"));
        (one.task.task_id, one.is_superseded, shown, one.is_repaired)
    });
    told.collect()
}

fn projects(world: &World) -> Vec<String> {
    let found = rows::unprojected_projects(world.ports().database, HEAD, NOW, 10);
    let mut found = block_on(found).unwrap();
    found.sort_unstable();
    found
}

#[test]
fn a_document_does_not_show_a_task_until_that_is_noted() {
    let world = world();
    let database = world.ports().database;
    put(&world, "a", "p", "node", 1);
    put(&world, "b", "p", "node", 2);
    put(&world, "c", "q", "other", 1);
    assert_eq!(projects(&world), ["p", "q"]);
    let expected = [
        ("a".to_owned(), true, None, false),
        ("b".to_owned(), false, None, false),
    ];
    assert_eq!(unprojected(&world, "p"), expected);

    let (a, b) = (get(&world, "a"), get(&world, "b"));
    let mut shown = Shown::default();
    shown.add("node");
    let projected = |task, is_repaired| Projected {
        task,
        shown: shown.clone(),
        is_repaired,
    };
    block_on(rows::mark_projected(database, &[], 5)).unwrap();
    // One changes in the meantime.
    world.rows("UPDATE aigc_tasks SET version = version + 1 WHERE task_id = 'b'");
    let both = [projected(&a, true), projected(&b, false)];
    block_on(rows::mark_projected(database, &both, 5)).unwrap();
    let left = [("b".to_owned(), false, None, false)];
    assert_eq!(unprojected(&world, "p"), left);
    let b = get(&world, "b");
    block_on(rows::mark_projected(database, &[projected(&b, false)], 5)).unwrap();
    assert_eq!(unprojected(&world, "p"), []);
    assert_eq!(projects(&world), ["q"]);
    let marked = &world.rows(
        "SELECT projected_status, projected_rev, shown_on, repaired FROM aigc_tasks WHERE task_id = 'a'",
    );
    let row = &marked[0];
    assert_eq!((row.integer(1).unwrap(), row.integer(3).unwrap()), (5, 1));
}

/// A user undoes what a document has just shown.
#[test]
fn a_document_that_changes_soon_after_an_end_is_projected_again() {
    for (ended, rev, is_repaired, is_due) in [
        (NOW - 119, 4, 0, true),
        (NOW - 119, 4, 1, true),
        (NOW - 120, 4, 0, false),
        (NOW, 5, 0, false),
        // The clock was ahead when the end was noted.
        (NOW + 120, 4, 0, true),
        (NOW + 121, 4, 0, false),
    ] {
        let world = world();
        put(&world, "a", "p", "node", 1);
        world.rows(&format!(
            "UPDATE aigc_tasks SET status = 'completed', projected_status = 'completed', completed_at = {ended},
                 projected_rev = {rev}, shown_on = '[\"node\"]', repaired = {is_repaired}"
        ));
        let expected: Vec<_> = is_due
            .then(|| ("a".to_owned(), false, Some(true), is_repaired == 1))
            .into_iter()
            .collect();
        let case = (ended - NOW, rev);
        assert_eq!(unprojected(&world, "p"), expected, "{case:?}");
        assert_eq!(projects(&world).len(), usize::from(is_due), "{case:?}");
    }
}

#[test]
fn a_task_that_was_never_projected_was_not_repaired_since() {
    let world = world();
    put(&world, "a", "p", "node", 1);
    world.rows("UPDATE aigc_tasks SET repaired = 1");
    assert_eq!(
        unprojected(&world, "p"),
        [("a".to_owned(), false, None, false)]
    );
}

#[test]
fn a_condition_holds_only_while_rows_are_as_they_were_read() {
    let world = world();
    put(&world, "a", "p", "node", 1);
    put(&world, "b", "p", "node", 2);
    let read = [get(&world, "a"), get(&world, "b")];
    let holds = |tasks: &[Task]| {
        let condition = rows::unchanged(tasks.iter());
        let sql = format!("SELECT {}", condition.sql);
        let found = world.ports().database.execute(&sql, condition.parameters);
        block_on(found).unwrap()[0].integer(0).unwrap() == 1
    };
    assert!(holds(&read) && holds(&read[..1]));
    world.rows("UPDATE aigc_tasks SET version = version + 1 WHERE task_id = 'b'");
    assert!(!holds(&read) && holds(&read[..1]));
}

#[test]
fn changes_come_in_their_order_and_only_the_last_of_each_task() {
    let world = world();
    let database = world.ports().database;
    for (id, project) in [("a", "p"), ("b", "p"), ("c", "q")] {
        put(&world, id, project, "node", 1);
    }
    world.rows("UPDATE aigc_tasks SET status = 'failed', version = 1 WHERE task_id = 'a'");
    let read = |after, until, open, limit| {
        let changes = Changes {
            project_id: "p",
            after,
            until,
            open,
            limit,
        };
        let found = block_on(rows::changes(database, changes)).unwrap();
        let told = found
            .into_iter()
            .map(|(change, task)| (change, task.task_id));
        told.collect::<Vec<_>>()
    };
    let (b, a) = ((2, "b".to_owned()), (4, "a".to_owned()));
    for (after, until, open, limit, expected) in [
        (0, 9, false, 9, vec![&b, &a]),
        (0, 9, true, 9, vec![&b]),
        (0, 9, false, 1, vec![&b]),
        (2, 9, false, 9, vec![&a]),
        (0, 3, false, 9, vec![&b]),
        (4, 9, false, 9, vec![]),
    ] {
        let found = read(after, until, open, limit);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    }
    let projects = ["q", "none", "p"].map(str::to_owned);
    let last = block_on(rows::last_changes(database, &projects)).unwrap();
    assert_eq!(last, [3, 0, 4]);
    assert_eq!(block_on(rows::last_changes(database, &[])).unwrap(), [0; 0]);
}

#[test]
fn a_message_about_a_task_names_its_project() {
    for (message, project) in [
        (
            r#"{"task_id": "t", "project_id": "p", "status": "failed"}"#,
            Some("p"),
        ),
        (r#"{"task_id": "t"}"#, None),
        (r#"{"project_id": 7}"#, None),
        ("p", None),
    ] {
        let found = project_of_event(message.as_bytes());
        assert_eq!(found.as_deref(), project, "{message}");
    }
}
