//! The tests of retention: an asset is deleted after the days for which the operator keeps it, unless a task or a
//! document needs it.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeSet;

use http::{Method, Request, Response};
use loro::{ExportMode, LoroDoc};
use platform::{
    Database, HttpError, Ports,
    native::{AnswerWith, MapConfig, MemoryKeyValue, Published, SetClock, SqliteFile, block_on},
};
use rooms::Memory;
use wire::Update;

const DAY: i64 = 24 * 3600;
const ROOM: &str = "p";

const SETTINGS: [(&str, &str); 3] = [
    ("keep_tasks_days", "10"),
    ("keep_assets_days", "10"),
    ("keep_quarantine_days", "10"),
];

/// A project whose operator keeps everything for ten days, with a document and, if the test says so, a bucket.
struct Project {
    database: SqliteFile,
    clock: SetClock,
    config: MapConfig,
    doc: LoroDoc,
    /// The statuses of the bucket's next answers, taken from the end; 204 if none is left.
    answers: RefCell<Vec<u16>>,
    /// The objects that the bucket was asked to delete, and whether their rows were gone by then.
    asked: RefCell<Vec<(String, bool)>>,
}

impl Project {
    fn new(settings: &[(&str, &str)]) -> Self {
        let clock = SetClock::default();
        clock.0.set(1_700_000_000);
        Self {
            database: SqliteFile::with_schema(),
            clock,
            config: MapConfig::from_pairs(settings),
            doc: LoroDoc::new(),
            answers: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    fn with_bucket() -> Self {
        let bucket = [
            ("s3_bucket", "results"),
            ("s3_endpoint", "https://s3.example"),
            ("s3_region", "auto"),
            ("s3_access_key", "access"),
            ("s3_secret_key", "secret"),
        ];
        Self::new(&[&SETTINGS[..], &bucket[..]].concat())
    }

    fn sql(&self, sql: &str) -> Vec<platform::Row> {
        block_on(self.database.execute(sql, vec![])).unwrap()
    }

    fn count(&self, of: &str) -> i64 {
        let rows = self.sql(&format!("SELECT count(*) FROM {of}"));
        rows[0].integer(0).unwrap()
    }

    /// Adds an asset that is stored now and has settled.
    fn asset(&self, id: &str, task: Option<&str>, bytes: &str) {
        let task = task.unwrap_or_default();
        self.asset_of(id, task, bytes, self.clock.0.get(), "NULL");
    }

    fn asset_of(&self, id: &str, task: &str, bytes: &str, created_at: i64, settle_at: &str) {
        self.sql(&format!(
            "INSERT INTO assets (asset_id, project_id, media_type, length, digest, created_at, bytes, task_id, settle_at)
             VALUES ('{id}', '{ROOM}', 'image/png', 3, 'x', {created_at}, {bytes}, nullif('{task}', ''), {settle_at})"
        ));
    }

    /// Adds a task that ends now, and whose end the document shows.
    fn task(&self, id: &str, params: &str) {
        let now = self.clock.0.get();
        self.sql(&format!(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at,
                 completed_at, projected_status, projected_rev, seq)
             SELECT '{id}', '{ROOM}', 'demo', 'completed', '{params}', {now}, {now}, {now}, 'completed', 999,
                    1 + (SELECT ifnull(max(seq), 0) FROM aigc_tasks)"
        ));
    }

    fn edit(&self, change: impl FnOnce(&LoroDoc)) {
        let before = self.doc.oplog_vv();
        change(&self.doc);
        self.doc.commit();
        self.append(self.doc.export(ExportMode::updates(&before)).unwrap());
    }

    fn append(&self, payload: Vec<u8>) {
        let update = Update {
            project: ROOM.into(),
            payload: payload.into(),
            serial: None,
        };
        let stored = rooms::append(&self.database, &self.clock, "editor", vec![update]);
        block_on(stored).unwrap();
    }

    fn show(&self, key: &str, asset: &str) {
        self.edit(|doc| {
            let src = format!("/assets/{asset}");
            doc.get_map("nodes").insert(key, src).unwrap();
        });
    }

    /// Runs one round of the poller after some days. Returns how many documents were looked at.
    fn after(&self, days: i64) -> usize {
        self.clock.0.set(self.clock.0.get() + days * DAY);
        self.round(|_| ())
    }

    /// Runs one round, with `between` happening between the claim and the look.
    fn round(&self, between: impl FnOnce(&Self)) -> usize {
        let http = AnswerWith(|request: Request<Vec<u8>>| self.answer(&request));
        let (key_value, pubsub) = (MemoryKeyValue::default(), Published::default());
        let ports = Ports {
            database: &self.database,
            key_value: &key_value,
            pubsub: &pubsub,
            http: &http,
            config: &self.config,
            clock: &self.clock,
        };
        let due = block_on(projection::drop_old(ports)).unwrap();
        between(self);
        for project in &due {
            // The poller logs a look that fails.
            let _ = block_on(projection::drop_unneeded(ports, Memory::default(), project));
        }
        due.len()
    }

    fn answer(&self, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        assert_eq!(request.method(), Method::DELETE);
        let (_, id) = request.uri().path().rsplit_once('/').unwrap();
        let is_gone = self.count(&format!("assets WHERE asset_id = '{id}'")) == 0;
        self.asked.borrow_mut().push((id.to_owned(), is_gone));
        let status = self.answers.borrow_mut().pop().unwrap_or(204);
        Ok(Response::builder().status(status).body(vec![]).unwrap())
    }

    fn assets(&self) -> BTreeSet<String> {
        let rows = self.sql("SELECT asset_id FROM assets");
        let ids = rows.into_iter().map(|mut row| row.text(0).unwrap());
        ids.collect()
    }
}

fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

/// Compares every combination of what may need an asset with the rule in one line.
#[test]
fn an_old_asset_goes_if_and_only_if_nothing_needs_it() {
    let project = Project::new(&SETTINGS);
    let mut kept = BTreeSet::new();
    for case in 0..64_u32 {
        let [is_old, has_task, in_params, is_shown, is_open, copy_shown] =
            std::array::from_fn(|bit| case >> bit & 1 == 1);
        let (id, task) = (format!("asset_{case:02}x.mp4"), format!("task_{case:02}"));
        let created_at = project.clock.0.get() + if is_old { 0 } else { 5 * DAY };
        let settle_at = if is_open { "9e9" } else { "NULL" };
        project.asset_of(&id, &task, "x'010203'", created_at, settle_at);
        if has_task {
            project.task(&task, "{}");
        }
        if in_params {
            project.task(
                &format!("other_{case:02}"),
                &format!("{{\"image\":\"/assets/{id}\"}}"),
            );
        }
        if is_shown {
            project.show(&format!("n{case}"), &id);
        }
        if copy_shown {
            project.sql(&format!(
                "INSERT INTO asset_copies VALUES ('asset_first{case:02}x', '{ROOM}', '{id}')"
            ));
            project.show(&format!("c{case}"), &format!("asset_first{case:02}x"));
        }
        if !is_old || has_task || in_params || is_shown || is_open || copy_shown {
            kept.insert(id);
        }
    }
    // The tasks of this project stay: an earlier one is under way.
    project.sql(
        "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at, seq)
         VALUES ('first', 'p', 'demo', 'processing', '{}', 0, 0, 0)",
    );
    assert_eq!(project.after(9), 0);
    assert_eq!(project.after(1), 1);
    assert_eq!(project.assets(), kept);
    assert_eq!((kept.len(), project.count("asset_removals")), (63, 0));
    // What was needed is looked at again ten days later, and not before; what was young is old by then.
    assert_eq!(project.after(4), 0);
    assert_eq!(project.after(1), 1);
    assert_eq!(project.assets().len(), 62);
}

#[test]
fn what_a_document_shows_no_more_goes_ten_days_after_it_was_last_seen_there() {
    let project = Project::new(&SETTINGS);
    project.asset("asset_a", None, "x'01'");
    project.asset("asset_b", None, "x'02'");
    project.show("a", "asset_a");
    project.after(10);
    assert_eq!(project.assets(), set(["asset_a"]));
    project.edit(|doc| doc.get_map("nodes").delete("a").unwrap());
    assert_eq!(project.after(9), 0);
    assert_eq!(project.assets(), set(["asset_a"]));
    assert_eq!(project.after(1), 1);
    assert_eq!(project.assets(), set([]));
}

#[test]
fn nothing_goes_while_the_document_may_lack_something() {
    // An update waits for one that has not come.
    let waiting = Project::new(&SETTINGS);
    let other = LoroDoc::new();
    other.get_map("nodes").insert("x", 1).unwrap();
    other.commit();
    let before = other.oplog_vv();
    other
        .get_map("nodes")
        .insert("a", "/assets/asset_a")
        .unwrap();
    other.commit();
    waiting.append(other.export(ExportMode::updates(&before)).unwrap());
    // An update is in quarantine.
    let quarantined = Project::new(&[("keep_assets_days", "10")]);
    quarantined.sql("INSERT INTO loro_quarantine VALUES ('p', 1, x'01', 'o', 0, 0, 'r')");
    // The document cannot be read.
    let unreadable = Project::new(&SETTINGS);
    unreadable.show("x", "nothing");
    unreadable.sql(
        "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev) VALUES ('p', x'00', x'00', 0, 1)",
    );
    for project in [waiting, quarantined, unreadable] {
        project.asset("asset_a", None, "x'01'");
        for days in [10, 1, 1] {
            // A look in vain is due again a day later, and not in the next round.
            assert_eq!(project.after(days), 1);
            assert_eq!(project.after(0), 0);
            assert_eq!(project.assets(), set(["asset_a"]));
        }
    }
}

#[test]
fn an_edit_after_the_look_keeps_the_asset() {
    let project = Project::new(&SETTINGS);
    project.show("x", "nothing");
    project.asset("asset_a", None, "x'01'");
    let store = |project: &Project| {
        let http = AnswerWith(|_| Err(HttpError::NoAnswer("none".into())));
        let store = tasks::AssetStore::open(&project.database, &http, &project.config).unwrap();
        block_on(store.remove("asset_a", 1, rooms::head_sql)).unwrap()
    };
    project.show("a", "asset_a");
    assert!(!store(&project));
    assert_eq!(project.assets(), set(["asset_a"]));
    // The document shows the asset between the claim and the look.
    project.clock.0.set(project.clock.0.get() + 10 * DAY);
    project.edit(|doc| doc.get_map("nodes").delete("a").unwrap());
    project.round(|project| project.show("again", "asset_a"));
    assert_eq!(project.assets(), set(["asset_a"]));
}

#[test]
fn an_object_goes_after_its_row_and_a_lost_delete_is_repeated() {
    let project = Project::with_bucket();
    for id in ["asset_a", "asset_b"] {
        project.asset(id, None, "NULL");
    }
    *project.answers.borrow_mut() = vec![404, 403, 403, 500, 500];
    project.after(10);
    // The bucket failed, so the second object is not tried. The first was tried twice, because a fault is repeated
    // once.
    assert_eq!(
        (project.assets(), project.asked.borrow().len()),
        (set([]), 2)
    );
    assert_eq!(project.count("asset_removals"), 2);
    for left in [2, 2, 0] {
        project.after(0);
        assert_eq!(project.count("asset_removals"), left);
    }
    let asked = project.asked.take();
    assert!(asked.iter().all(|(_, is_gone)| *is_gone), "{asked:?}");
    let names: BTreeSet<String> = asked.into_iter().map(|(id, _)| id).collect();
    assert_eq!(names, set(["asset_a", "asset_b"]));
}

#[test]
fn an_asset_in_a_bucket_that_is_not_set_stays() {
    let project = Project::new(&SETTINGS);
    project.asset("asset_a", None, "NULL");
    assert_eq!(project.after(10), 1);
    assert_eq!(project.assets(), set(["asset_a"]));
}

#[test]
fn a_task_goes_after_its_end_and_its_result_after_the_document_shows_it_no_more() {
    let project = Project::new(&SETTINGS);
    project.task("task_a", "{}");
    project.asset("asset_a", Some("task_a"), "x'01'");
    project.show("a", "asset_a");
    for (column, value, back) in [
        ("status", "'processing'", "'completed'"),
        ("projected_status", "NULL", "'completed'"),
        ("notify_at", "7", "NULL"),
    ] {
        project.sql(&format!("UPDATE aigc_tasks SET {column} = {value}"));
        project.after(10);
        assert_eq!(project.count("aigc_tasks"), 1, "{column}");
        project.sql(&format!("UPDATE aigc_tasks SET {column} = {back}"));
    }
    project.sql("UPDATE assets SET settle_at = 9e9");
    project.after(0);
    assert_eq!(project.count("aigc_tasks"), 1);
    project.sql("UPDATE assets SET settle_at = NULL");
    project.after(0);
    assert_eq!(project.count("aigc_tasks"), 0);
    project.after(10);
    project.after(10);
    assert_eq!(project.assets(), set(["asset_a"]));
    project.edit(|doc| doc.get_map("nodes").delete("a").unwrap());
    project.after(10);
    assert_eq!(project.assets(), set([]));
}

#[test]
fn an_update_stays_in_quarantine_for_as_long_as_the_setting_says() {
    let project = Project::new(&SETTINGS);
    project.sql("INSERT INTO loro_quarantine VALUES ('p', 1, x'01', 'o', 0, 1700000000, 'r')");
    for (days, left) in [(0, 1), (9, 1), (1, 0)] {
        project.after(days);
        assert_eq!(project.count("loro_quarantine"), left);
    }
}

#[test]
fn each_round_has_a_bound() {
    let project = Project::new(&SETTINGS);
    for n in 0..65 {
        project.task(&format!("task_{n}"), "{}");
        project.asset(&format!("asset_{n}"), None, "x'01'");
        project.sql(&format!(
            "INSERT INTO loro_quarantine VALUES ('other', {n}, x'01', 'o', 0, 1700000000, 'r')"
        ));
    }
    for left in [1, 0] {
        project.after(if left == 1 { 10 } else { 0 });
        for table in ["aigc_tasks", "assets", "loro_quarantine"] {
            assert_eq!(project.count(table), left, "{table}");
        }
    }
}

#[test]
fn everything_is_kept_if_nothing_is_set() {
    let project = Project::new(&[]);
    project.task("task_a", "{}");
    project.asset("asset_a", None, "x'01'");
    project.sql("INSERT INTO loro_quarantine VALUES ('other', 1, x'01', 'o', 0, 0, 'r')");
    assert_eq!(project.after(36_500), 0);
    for table in ["aigc_tasks", "assets", "loro_quarantine"] {
        assert_eq!(project.count(table), 1, "{table}");
    }
}
