//! The mistakes that the model must notice, each made in the statements of the engine.

/// A mistake: a name, and the parts of statements that are replaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mutant(
    pub(crate) &'static str,
    &'static [(&'static str, &'static str)],
);

impl Mutant {
    /// The mutant without a mistake. As in all others, projects are ordered by name and not by chance, so that a seed
    /// decides everything.
    pub(crate) const NONE: Self = Self("none", &[]);

    /// The statement with the mistake in it.
    pub(crate) fn applied(self, sql: &str) -> String {
        let parts = self.1.iter().chain(&[("random()", "project_id")]);
        parts.fold(sql.to_owned(), |sql, (right, wrong)| {
            sql.replace(right, wrong)
        })
    }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant(
        "double submission: a claim holds for no time",
        &[
            ("lease_until = ?1 + ?2,", "lease_until = ?1,"),
            (
                "next_attempt_at = ?1 + ?2 + ",
                "next_attempt_at = ?1 + 0 * ",
            ),
        ],
    ),
    Mutant(
        "one too many at a service",
        &[("FROM held) < ?4", "FROM held) <= ?4")],
    ),
    Mutant(
        "one too many of a project",
        &[(
            "held.project_id = waiting.project_id) < ?5",
            "held.project_id = waiting.project_id) <= ?5",
        )],
    ),
    Mutant(
        "the last end wins",
        &[(
            "run = ?2 AND status IN ('pending', 'processing') RETURNING",
            "run = ?2 RETURNING",
        )],
    ),
    Mutant(
        "a claim that has run out is used",
        &[("run = ?2 AND lease_until = ?3 AND", "run = ?2 AND")],
    ),
    Mutant(
        "the sweep repeats no projection",
        &[("WHERE projected_status IS NULL\n", "WHERE 0\n")],
    ),
    Mutant(
        "no pause after a failure",
        &[("next_attempt_at = ?5 + ?6", "next_attempt_at = ?5 + 0 * ?6")],
    ),
    Mutant(
        "a task for which there was no place has a pause of its own, so that later ones overtake it",
        &[(
            "lease_until = NULL, next_attempt_at = ?5 + ?6\n          WHERE task_id = ?1 AND run = ?2 AND lease_until = ?3 AND status IN ('pending', 'processing') AND external",
            "lease_until = NULL, next_attempt_at = ?5 + 60 + 0 * ?6\n          WHERE task_id = ?1 AND run = ?2 AND lease_until = ?3 AND status IN ('pending', 'processing') AND external",
        )],
    ),
    Mutant(
        "a task that was asked about too often is submitted again at once",
        &[(
            "lease_until = NULL, next_attempt_at = ?5 + ?6\n          WHERE task_id = ?1 AND run = ?2 AND lease_until = ?3 AND status IN ('pending', 'processing') AND external",
            "lease_until = NULL, next_attempt_at = ?5 + 0 * ?6\n          WHERE task_id = ?1 AND run = ?2 AND lease_until = ?3 AND status IN ('pending', 'processing') AND external",
        )],
    ),
    Mutant(
        "a service that always says \"too often\" is asked by every task",
        &[("doubts = doubts + (", "doubts = 0 * (")],
    ),
    Mutant(
        "a service that says \"too often\" gets several at once",
        &[("EXISTS (SELECT 1 FROM held WHERE NOT is_accepted)", "0")],
    ),
    Mutant(
        "every task tries for a place",
        &[(
            "OR (EXISTS (SELECT 1 FROM aigc_places",
            "OR (0 AND EXISTS (SELECT 1 FROM aigc_places",
        )],
    ),
    Mutant(
        "a try for one more follows the other at once",
        &[("service = ?3 AND (probe_at", "0 AND (probe_at")],
    ),
    Mutant(
        "a service is asked before the time that it has named",
        &[("quiet_until > ?1", "quiet_until > ?1 + 1000")],
    ),
    Mutant(
        "two tries at once",
        &[("EXISTS (SELECT 1 FROM held WHERE held.is_probe)", "0")],
    ),
    Mutant(
        "the pause does not grow",
        &[("THEN refusals + 1", "THEN 1")],
    ),
    Mutant(
        "a place that becomes free waits for the end of the pause",
        &[("service = ?3 AND places <=", "service = ?3 AND 0 <=")],
    ),
    Mutant(
        "a job is asked about all the time",
        &[(
            "SET lease_until = ?1 + 9, next_attempt_at = ?1 + 9",
            "SET lease_until = ?1, next_attempt_at = ?1",
        )],
    ),
];
