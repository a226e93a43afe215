//! The rooms that take no more, because they are full or a quota is used up. The crate `quota` notes which these are.

use std::collections::HashMap;

use platform::{Database, DatabaseError};
use wire::Outcome;

/// The reasons why projects take no update, or none above a size.
#[derive(Debug, Default)]
pub(crate) struct NotTaken(HashMap<String, Vec<Reason>>);

#[derive(Debug)]
struct Reason {
    /// The largest update that is taken all the same, in bytes; none if negative.
    largest: i64,
    code: Option<String>,
    words: String,
}

impl NotTaken {
    /// Asks why these projects take no update. Without projects, the database is not asked.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn ask(
        database: &dyn Database,
        projects: impl Iterator<Item = &str>,
    ) -> Result<Self, DatabaseError> {
        // Project ids need no escape in JSON.
        let projects: Vec<String> = projects.map(|project| format!("\"{project}\"")).collect();
        if projects.is_empty() {
            return Ok(Self::default());
        }
        let sql = format!(
            "WITH asked (project_id) AS (SELECT DISTINCT value FROM json_each(?1))
            SELECT 0, project_id, -1, NULL, 'the project was deleted' FROM asked WHERE {}
            UNION ALL {}
            ORDER BY 1",
            auth::conditions::deleted("asked.project_id"),
            quota::reasons_sql()
        );
        let parameters = vec![format!("[{}]", projects.join(",")).into()];
        let mut reasons: HashMap<String, Vec<Reason>> = HashMap::new();
        for mut row in database.execute(&sql, parameters).await? {
            let reason = Reason {
                largest: row.integer(2)?,
                code: row.optional_text(3)?,
                words: row.text(4)?,
            };
            reasons.entry(row.text(1)?).or_default().push(reason);
        }
        Ok(Self(reasons))
    }

    /// The refusal of an update of this many bytes; `None` if the project takes it.
    pub(crate) fn refusal(&self, project: &str, bytes: usize) -> Option<Outcome> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let reasons = self.0.get(project)?;
        let reason = reasons.iter().find(|reason| reason.largest < bytes)?;
        Some(Outcome::Refused {
            reason: reason.words.clone(),
            code: reason.code.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_update_that_is_taken_is_taken() {
        let reason = |largest, words: &str| Reason {
            largest,
            code: None,
            words: words.to_owned(),
        };
        let reasons = vec![reason(20, "its owner"), reason(10, "the project")];
        let deleted = vec![reason(-1, "deleted")];
        let not_taken = NotTaken([("p".to_owned(), reasons), ("q".to_owned(), deleted)].into());
        for (project, bytes, words) in [
            ("p", 10, None),
            ("p", 11, Some("the project")),
            ("p", 20, Some("the project")),
            ("p", 21, Some("its owner")),
            ("q", 0, Some("deleted")),
            ("other", usize::MAX, None),
        ] {
            let told = match not_taken.refusal(project, bytes) {
                Some(Outcome::Refused { reason, .. }) => Some(reason),
                _ => None,
            };
            assert_eq!(told.as_deref(), words, "{bytes} in {project}");
        }
    }
}
