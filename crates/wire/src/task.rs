//! The tasks for which clients of a relay wait.

use minicbor::{CborLen, Decode, Encode};

/// The Redis channel on which the app publishes each change of a task, as a JSON object with its `task_id`.
pub const TASK_CHANGES: &str = "task-events";

/// The header in which the app's answer to a relay has the mark of a task that is not finished. The relay removes it.
pub const TASK_MARK: &str = "x-loro-internal-task-mark";

/// The header of an answer with events, for a relay that holds the stream. Its value is the place in the stream after
/// these events, followed by `more` if the app has more events at once; or it is `end`. The relay asks again with that
/// place as `Last-Event-ID`, and removes the header.
pub const TASK_EVENTS: &str = "x-loro-internal-task-events";

/// The value of [`TASK_EVENTS`] after the last event of a stream.
pub const END_OF_EVENTS: &str = "end";

/// The suffix of a value of [`TASK_EVENTS`] if the app has more events at once.
pub const MORE_EVENTS: &str = " more";

/// The most bytes of events in one answer, not counting the last event.
pub const MAX_EVENTS: usize = 256 * 1024;

/// The longest time for which a request may wait for a task, in seconds: less than proxies wait for an answer.
pub const LONGEST_WAIT: u64 = 50;

/// The most tasks, and the most projects, of one [`MarksRequest`].
pub const MAX_MARKS: usize = 500;

/// Asks for the marks of tasks, and of all tasks of projects.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct MarksRequest {
    /// The ids of at most [`MAX_MARKS`] tasks.
    #[n(0)]
    pub tasks: Vec<String>,
    /// The ids of at most [`MAX_MARKS`] projects.
    #[n(1)]
    pub projects: Option<Vec<String>>,
}

/// The marks of what a [`MarksRequest`] names, in its order.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct Marks {
    /// A word that changes with the task; `None` if there is no such task.
    #[n(0)]
    pub marks: Vec<Option<String>>,
    /// A word that changes with any task of the project; `None` if the app does not know such words.
    #[n(1)]
    pub projects: Option<Vec<String>>,
}

/// The seconds for which a header `Prefer` (RFC 7240, section 4.3) asks to wait, but at most [`LONGEST_WAIT`]; `None`
/// if it does not ask.
pub fn preferred_wait(header: &str) -> Option<u64> {
    let preferences = header.split(',').filter_map(|preference| {
        // Parameters of a preference follow its value.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then_some(value)
    });
    let seconds: u64 = preferences.into_iter().next()?.parse().ok()?;
    (seconds > 0).then(|| seconds.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_asks_for_a_wait() {
        for (header, seconds) in [
            ("wait=30", Some(30)),
            ("respond-async, Wait = \"10\"; a=b", Some(10)),
            ("wait=3600", Some(50)),
            ("wait=0", None),
            ("wait", None),
            ("wait=soon, wait=5", None),
            ("return=minimal", None),
            ("", None),
        ] {
            assert_eq!(preferred_wait(header), seconds, "{header}");
        }
    }
}
