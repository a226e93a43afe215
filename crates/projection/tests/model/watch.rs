//! The rules that claims must keep, whatever the statements of the engine do: the oldest task of a project comes first,
//! and a service that has refused a task is asked no more often than the rule for that allows.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use platform::{Database, Row, Value, native::block_on};

/// The shortest first pause after a refusal, and the longest pause, in seconds.
const FIRST_PAUSE: i64 = 5;
const LONGEST_PAUSE: i64 = 300;

/// The number of times in a row that a service may say "too often" before it is left alone.
const DOUBTS: u32 = 3;

/// The knowledge about a service that has refused a task.
#[derive(Debug, Default)]
struct Known {
    /// The number of tasks that it takes at once.
    places: i64,
    /// The number of tries for one more that it has refused in a row.
    refusals: u32,
    /// The earliest time of the next such try.
    not_before: i64,
    /// The earliest time of any submission, because the service asked for that.
    quiet_until: i64,
    /// The number of times in a row that it has said that it is asked too often.
    doubts: u32,
    /// The task of the try that is under way, and the end of its claim.
    probe: Option<(String, i64)>,
}

#[derive(Default)]
pub(crate) struct Watch {
    services: RefCell<HashMap<String, Known>>,
    /// The tasks about which a service said "too often" after their last claim: others may overtake them.
    held_up: RefCell<HashSet<String>>,
}

/// The number of tasks that hold a place at a service, except one of them.
fn others(database: &dyn Database, service: &str, task: &str, now: i64) -> i64 {
    let sql = "SELECT count(*) FROM aigc_tasks
          WHERE external_service = ?1 AND task_id <> ?2 AND status IN ('pending', 'processing')
            AND (external_task_id IS NOT NULL OR lease_until > ?3)";
    let parameters = vec![service.into(), task.into(), now.into()];
    let rows = block_on(database.execute(sql, parameters)).unwrap();
    rows[0].integer(0).unwrap()
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// The time, the service and the task of a note about a refusal.
fn noted(parameters: &[Value]) -> (i64, String, String) {
    let Value::Integer(now) = parameters[0] else {
        panic!("{parameters:?}");
    };
    (now, text(&parameters[2]), text(&parameters[3]))
}

/// The end of the claim that such a note is about, if it still holds.
fn claim(database: &dyn Database, parameters: &[Value]) -> Option<i64> {
    let claim =
        "SELECT lease_until FROM aigc_tasks WHERE task_id = ?1 AND run = ?2 AND lease_until = ?3
                    AND status IN ('pending', 'processing')";
    let claim = block_on(database.execute(claim, parameters[3..6].to_vec())).unwrap();
    claim.first().map(|row| row.integer(0).unwrap())
}

impl Watch {
    /// Checks and records that a task was claimed for a submission.
    pub(crate) fn claimed(&self, database: &dyn Database, task: &str, now: i64) {
        let sql = "SELECT external_service, lease_until,
                (SELECT group_concat(older.task_id) FROM aigc_tasks older
                  WHERE older.project_id = task.project_id AND older.external_service = task.external_service
                    AND older.seq < task.seq AND older.status = 'pending')
           FROM aigc_tasks task WHERE task_id = ?1";
        let mut rows = block_on(database.execute(sql, vec![task.into()])).unwrap();
        let row: &mut Row = &mut rows[0];
        let (service, lease_until) = (row.text(0).unwrap(), row.integer(1).unwrap());
        let older = row.optional_text(2).unwrap().unwrap_or_default();
        let mut held_up = self.held_up.borrow_mut();
        held_up.remove(task);
        let older: Vec<&str> = older
            .split(',')
            .filter(|older| !older.is_empty() && !held_up.contains(*older))
            .collect();
        assert_eq!(older, [""; 0], "{task} is submitted before older ones");
        let mut known = self.services.borrow_mut();
        let Some(known) = known.get_mut(&service) else {
            return;
        };
        assert!(
            now >= known.quiet_until,
            "{service} is asked before the time that it named: {known:?}"
        );
        if known.doubts >= DOUBTS {
            let is_submitted = "SELECT 1 FROM aigc_tasks WHERE external_service = ?1 AND task_id <> ?2
                    AND status IN ('pending', 'processing') AND external_task_id IS NULL AND lease_until > ?3";
            let parameters = vec![service.as_str().into(), task.into(), now.into()];
            let others = block_on(database.execute(is_submitted, parameters)).unwrap();
            assert_eq!(
                others.len(),
                0,
                "{service} says \"too often\", and gets two at once"
            );
        }
        let held = others(database, &service, task, now);
        if held < known.places {
            return;
        }
        assert!(
            now >= known.not_before,
            "{service} has refused, and is asked again: {held} {known:?}"
        );
        if let Some((probe, until)) = &known.probe {
            let is_at_work = database.execute(
                "SELECT 1 FROM aigc_tasks WHERE task_id = ?1 AND lease_until = ?2 AND external_task_id IS NULL",
                vec![probe.as_str().into(), (*until).into()],
            );
            let is_at_work = *until > now && !block_on(is_at_work).unwrap().is_empty();
            assert!(!is_at_work, "two tries at {service} at once");
        }
        known.probe = Some((task.to_owned(), lease_until));
    }

    /// Records that a service has said "too often", which the engine is about to note.
    pub(crate) fn asked_too_often(
        &self,
        database: &dyn Database,
        parameters: &[Value],
        asked: i64,
    ) {
        let (now, service, task) = noted(parameters);
        if claim(database, parameters).is_none() {
            return;
        }
        let Value::Integer(setting) = parameters[1] else {
            panic!("{parameters:?}");
        };
        let mut known = self.services.borrow_mut();
        let known = known.entry(service).or_insert(Known {
            places: setting,
            ..Known::default()
        });
        let Value::Integer(claimed_at) = parameters[8] else {
            panic!("{parameters:?}");
        };
        let mut pause = 0;
        if known.doubts < DOUBTS || known.quiet_until <= claimed_at {
            known.doubts += 1;
            if let Some(more) = known.doubts.checked_sub(DOUBTS) {
                pause = (FIRST_PAUSE << more.min(10)).min(LONGEST_PAUSE / 2);
            }
        }
        let quiet = pause.max(asked.min(LONGEST_PAUSE));
        known.quiet_until = known.quiet_until.max(now + quiet);
        self.held_up.borrow_mut().insert(task);
    }

    /// Records a refusal that the engine is about to note. It counts only if its claim still holds, because the process
    /// may have been held up since.
    pub(crate) fn refused(&self, database: &dyn Database, parameters: &[Value], asked: i64) {
        let (now, service, task) = noted(parameters);
        let Some(claim) = claim(database, parameters) else {
            return;
        };
        let places = others(database, &service, &task, now);
        let mut known = self.services.borrow_mut();
        let known = known.entry(service).or_default();
        let is_probe = known.probe == Some((task, claim));
        if is_probe {
            known.probe = None;
        }
        known.refusals = if is_probe { known.refusals + 1 } else { 1 };
        let pause = (FIRST_PAUSE << (known.refusals - 1).min(10)).min(LONGEST_PAUSE / 2);
        known.places = places;
        known.not_before = now + pause.max(asked.min(LONGEST_PAUSE));
        known.quiet_until = known.quiet_until.max(now + asked.min(LONGEST_PAUSE));
    }

    /// Records that a service has taken a task, perhaps one more than it was known to take.
    pub(crate) fn taken(&self, service: &str, is_probe: bool, now: i64) {
        let mut known = self.services.borrow_mut();
        let Some(known) = known.get_mut(service) else {
            return;
        };
        known.doubts = 0;
        if is_probe {
            known.places += 1;
            known.refusals = 0;
            known.not_before = now;
        }
    }
}
