//! The name of a model at fal, and the paths that follow from it.

use crate::executor::{Failure, is_job_name};

/// The beginning of the task types.
const PREFIX: &str = "fal:";

/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 200;

/// A model, such as `fal-ai/flux/dev`: its owner, its app, and perhaps a path within the app.
#[derive(Debug, PartialEq)]
pub(super) struct Model<'a> {
    name: &'a str,
    /// The part of the name that has the queue.
    app: &'a str,
}

impl<'a> Model<'a> {
    /// The model that a task type names.
    pub(super) fn of(task_type: &'a str) -> Option<Self> {
        let name = task_type.strip_prefix(PREFIX)?;
        let is_plain = |part: &str| {
            let is_known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_known)
        };
        if name.len() > MAX_MODEL || !name.split('/').all(is_plain) {
            return None;
        }
        // Apps of these kinds have the kind before their owner.
        let is_within = ["workflows/", "comfy/"]
            .iter()
            .any(|kind| name.starts_with(kind));
        let parts = if is_within { 3 } else { 2 };
        let mut ends = name.match_indices('/').map(|(at, _)| at).skip(parts - 2);
        ends.next()?;
        let app = &name[..ends.next().unwrap_or(name.len())];
        Some(Self { name, app })
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    /// The path that takes jobs.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// The path of a job. It is not taken from fal's answers, because the requests to it carry fal's key.
    pub(super) fn job(&self, name: &str) -> Result<String, Failure> {
        if is_job_name(name) {
            Ok(format!("/{}/requests/{name}", self.app))
        } else {
            Err(Failure::permanent("fal knows no job by this name"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_asked_about_at_its_app() {
        for (task_type, app) in [
            ("fal:fal-ai/flux", "fal-ai/flux"),
            ("fal:fal-ai/flux/dev", "fal-ai/flux"),
            (
                "fal:fal-ai/kling-video/v2.6/pro/text-to-video",
                "fal-ai/kling-video",
            ),
            ("fal:workflows/me/mine", "workflows/me/mine"),
            ("fal:comfy/me/mine/more", "comfy/me/mine"),
        ] {
            let model = Model::of(task_type).unwrap();
            assert_eq!(model.path(), format!("/{}", &task_type[4..]));
            assert_eq!(model.job("a-1"), Ok(format!("/{app}/requests/a-1")));
        }
        for name in ["", "a/b", "..", "a?b", "a b", &"a".repeat(256)] {
            assert!(Model::of("fal:a/b").unwrap().job(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_no_model_is_no_task_type() {
        let long = format!("fal:a/{}", "b".repeat(200));
        for wrong in [
            "fal",
            "fal:",
            "fal:flux",
            "fal:a/",
            "fal:/a",
            "fal:a//b",
            "fal:a/../b",
            "fal:a/b?c",
            "fal:a/b#c",
            "fal:workflows/a",
            "kling:a/b",
            &long,
        ] {
            assert_eq!(Model::of(wrong), None, "{wrong}");
        }
        assert!(Model::of(&long[..long.len() - 2]).is_some());
    }
}
