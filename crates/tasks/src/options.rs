//! The fields of a new task that its service does not know: notes of the caller, the events of which the caller is
//! notified, and the time by which the task must have ended.

use problem::Fields;
use serde_json::{Map, Value, json};

use crate::task::{MAX_NODE_ID, Task};

/// The events of which an agent may be notified.
const EVENTS: &[&str] = &["started", "completed", "failed", "cancelled"];

/// The longest `cancel_after`, in seconds: as long as services keep results.
const LONGEST: i64 = 30 * 24 * 3600;

/// The most tags of a task.
const MAX_TAGS: usize = 16;

/// The longest tag, in characters.
const MAX_TAG: usize = 64;

/// The most bytes of a task's metadata.
const MAX_METADATA: usize = 4096;

/// The fields of this kind in a request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    cancel_after: Option<i64>,
    events: Vec<String>,
    tags: Vec<String>,
    metadata: Option<Value>,
}

impl Options {
    /// Reads the fields, and notes what is wrong with them.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            cancel_after: cancel_after(fields),
            events: events(fields),
            tags: tags(fields),
            metadata: metadata(fields),
        }
    }

    /// Puts these fields into a new task.
    pub(crate) fn apply(self, task: &mut Task) {
        task.cancel_at = self.cancel_after.map(|after| task.created_at + after);
        task.notify_of = (!self.events.is_empty()).then(|| self.events.join(","));
        task.tags = self.tags;
        task.metadata = self.metadata;
    }
}

/// The part of a task that came from these fields, for the digest of its request; `None` if the task has none
/// of them.
pub(crate) fn canonical(task: &Task) -> Option<Value> {
    let after = task.cancel_at.map(|at| at - task.created_at);
    let is_plain = after.is_none()
        && task.notify_of.is_none()
        && task.tags.is_empty()
        && task.metadata.is_none();
    (!is_plain).then(|| json!([after, task.notify_of, task.tags, task.metadata]))
}

/// Returns whether these columns may be those of a task. Their bounds are those of the fields of a new task.
pub fn may_be_columns(node_id: Option<&str>, tags: Option<&str>, metadata: Option<&str>) -> bool {
    let json = |text: Option<&str>| match text {
        Some(text) => serde_json::from_str(text),
        None => Ok(Value::Null),
    };
    let (Ok(tags_value), Ok(metadata_value)) = (json(tags), json(metadata)) else {
        return false;
    };
    let values = [
        ("node_id", json!(node_id)),
        ("tags", tags_value),
        ("metadata", metadata_value),
    ];
    let values: Map<String, Value> = values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let mut fields = Fields::new(&values, "");
    fields.text("node_id", MAX_NODE_ID);
    self::tags(&mut fields);
    self::metadata(&mut fields);
    fields.finish().is_empty()
}

fn cancel_after(fields: &mut Fields<'_>) -> Option<i64> {
    let seconds = fields.seconds("cancel_after")?;
    if seconds > LONGEST {
        fields.wrong("cancel_after", format!("must be at most {LONGEST} seconds"));
    }
    Some(seconds.min(LONGEST))
}

fn events(fields: &mut Fields<'_>) -> Vec<String> {
    let events = fields.texts("events", EVENTS.len());
    if events.iter().any(|event| !EVENTS.contains(event)) {
        let known = EVENTS.join(", ");
        fields.wrong("events", format!("must be one or more of {known}"));
        return Vec::new();
    }
    if !events.is_empty() && fields.value("callback_url").is_none() {
        fields.wrong("events", "needs a callback_url");
    }
    events.into_iter().map(str::to_owned).collect()
}

fn tags(fields: &mut Fields<'_>) -> Vec<String> {
    let tags = fields.texts("tags", MAX_TAGS);
    let is_tag = |tag: &&str| {
        (1..=MAX_TAG).contains(&tag.chars().count()) && !tag.chars().any(char::is_control)
    };
    if !tags.iter().all(is_tag) {
        let words = format!("must have 1 to {MAX_TAG} characters each, in one line");
        fields.wrong("tags", words);
        return Vec::new();
    }
    tags.into_iter().map(str::to_owned).collect()
}

fn metadata(fields: &mut Fields<'_>) -> Option<Value> {
    let metadata = fields.value("metadata")?;
    if !metadata.is_object() {
        fields.wrong("metadata", "must be an object");
        return None;
    }
    if metadata.to_string().len() > MAX_METADATA {
        fields.wrong("metadata", format!("has more than {MAX_METADATA} bytes"));
        return None;
    }
    Some(metadata.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: Value) -> (Options, Vec<String>) {
        let Value::Object(values) = values else {
            return (Options::default(), Vec::new());
        };
        let values: Map<String, Value> = values;
        let mut fields = Fields::new(&values, "");
        let options = Options::read(&mut fields);
        let wrong = fields.finish().into_iter().map(|error| error.field);
        (options, wrong.collect())
    }

    #[test]
    fn each_bound_is_kept() {
        let note = |bytes: usize| json!({ "n": "x".repeat(bytes - 8) });
        let right = json!({
            "callback_url": "https://a.example/", "events": ["started", "failed"], "cancel_after": LONGEST,
            "tags": vec!["\u{e9}".repeat(MAX_TAG); MAX_TAGS], "metadata": note(MAX_METADATA),
        });
        let (options, wrong) = read(right);
        assert!(wrong.is_empty(), "{wrong:?}");
        let mut task = Task::new(7);
        assert_eq!(canonical(&task), None);
        options.apply(&mut task);
        assert_eq!(task.cancel_at, Some(7 + 2_592_000));
        assert_eq!(task.notify_of.as_deref(), Some("started,failed"));
        assert!(canonical(&task).is_some());
        for (name, value) in [
            ("cancel_after", json!(LONGEST + 1)),
            ("cancel_after", json!(0)),
            ("cancel_after", json!(1.5)),
            ("events", json!(["begun"])),
            // Nothing is notified without an address.
            ("events", json!(["failed"])),
            ("tags", json!(vec!["a"; MAX_TAGS + 1])),
            ("tags", json!(["x".repeat(MAX_TAG + 1)])),
            ("tags", json!([""])),
            ("tags", json!(["a\nb"])),
            ("tags", json!("a")),
            ("metadata", json!([1])),
            ("metadata", note(MAX_METADATA + 1)),
        ] {
            assert_eq!(read(json!({ name: value })).1, [name], "{value}");
        }
    }

    #[test]
    fn the_columns_of_a_task_have_the_bounds_of_its_fields() {
        let node = "n".repeat(MAX_NODE_ID);
        assert!(may_be_columns(None, None, None));
        assert!(may_be_columns(
            Some(&node),
            Some("[\"a\"]"),
            Some("{\"b\":1}")
        ));
        for (node, tags, metadata) in [
            (Some(&*format!("{node}n")), None, None),
            (None, Some("[1]"), None),
            (None, Some("["), None),
            (None, None, Some("[]")),
            (None, None, Some("{")),
        ] {
            assert!(!may_be_columns(node, tags, metadata));
        }
    }
}
