//! Tests rooms that are full: new updates are refused, and saved ones stay.

#![allow(clippy::unwrap_used)]

use loro::{ExportMode, LoroDoc};
use platform::{
    Condition,
    native::{MapConfig, World, block_on},
};
use wire::{Outcome, Update};

fn update(project: &str, serial: Option<u64>, bytes: usize) -> Update {
    let doc = LoroDoc::new();
    let letters: String = (0..bytes)
        .map(|n| char::from(b'a' + (n * n % 23) as u8))
        .collect();
    doc.get_text("text").insert(0, &letters).unwrap();
    doc.commit();
    Update {
        project: project.into(),
        payload: doc.export(ExportMode::all_updates()).unwrap().into(),
        serial,
    }
}

fn append(world: &World, updates: Vec<Update>) -> Vec<Outcome> {
    let ports = world.ports();
    block_on(rooms::append(ports.database, ports.clock, "r", updates)).unwrap()
}

fn fill(world: &World, holder: &str, largest: u64) {
    let sql = "INSERT INTO quota_full (holder, code, reason, largest, counted_at) VALUES (?1, 'room_full', 'it is full', ?2, 0)";
    let parameters = vec![holder.into(), largest.into()];
    block_on(world.ports().database.execute(sql, parameters)).unwrap();
}

fn words(outcome: &Outcome) -> (Option<&str>, &str) {
    match outcome {
        Outcome::Refused { code, reason } => (code.as_deref(), reason),
        Outcome::Stored { .. } => (None, "stored"),
        Outcome::Suspect => (None, "suspect"),
    }
}

#[test]
fn a_full_room_takes_small_updates_alone_and_other_rooms_take_all() {
    let world = World::new(MapConfig::default());
    let sent = update("p", Some(1), 3);
    append(&world, vec![sent.clone()]);
    fill(&world, "project:p", 4096);
    let outcomes = append(
        &world,
        vec![
            update("p", Some(2), 20_000),
            update("p", Some(3), 10),
            update("q", Some(4), 20_000),
            sent,
        ],
    );
    let seen: Vec<_> = outcomes.iter().map(words).collect();
    let full = (Some("room_full"), "it is full");
    let stored = (None, "stored");
    assert_eq!(seen, [full, stored, stored, stored]);
    assert!(
        matches!(outcomes[3], Outcome::Stored { rev: 1, .. }),
        "a repeat has the outcome of the first time"
    );
}

/// An update that builds on one that was too large is stored, but waits.
#[test]
fn what_builds_on_what_was_too_large_waits() {
    let world = World::new(MapConfig::default());
    fill(&world, "project:p", 4096);
    let large = update("p", Some(1), 20_000);
    let doc = LoroDoc::new();
    doc.import(&large.payload).unwrap();
    let typed = |serial| {
        let before = doc.oplog_vv();
        doc.get_text("text").insert(0, "x").unwrap();
        doc.commit();
        Update {
            payload: doc.export(ExportMode::updates(&before)).unwrap().into(),
            serial: Some(serial),
            ..large.clone()
        }
    };
    let outcomes = append(&world, vec![large.clone(), typed(2)]);
    assert_eq!(words(&outcomes[0]).0, Some("room_full"));
    let waits = Some(true);
    assert_eq!(outcomes[1], Outcome::Stored { rev: 1, waits });
    // An update that builds on that one waits, too, in a request of its own.
    let outcomes = append(&world, vec![typed(3)]);
    assert_eq!(outcomes, [Outcome::Stored { rev: 2, waits }]);
}

#[test]
fn a_full_owner_takes_nothing_in_any_project_but_what_the_app_writes() {
    let world = World::new(MapConfig::default());
    let ports = world.ports();
    for (project, owner) in [("p", "o"), ("q", "o"), ("r", "other")] {
        let sql = "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at) VALUES (?1, '', ?2, 0, 0)";
        let parameters = vec![project.into(), owner.into()];
        block_on(ports.database.execute(sql, parameters)).unwrap();
    }
    fill(&world, "owner:o", 0);
    let outcomes = append(
        &world,
        ["p", "q", "r"]
            .map(|project| update(project, None, 3))
            .into(),
    );
    let seen: Vec<_> = outcomes.iter().map(|outcome| words(outcome).1).collect();
    assert_eq!(seen, ["it is full", "it is full", "stored"]);
    let of_app = rooms::append_if(
        ports.database,
        ports.clock,
        "app",
        update("p", None, 3),
        0,
        Condition::default(),
    );
    assert_eq!(block_on(of_app).unwrap(), Some(1));
}
