//! Tasks for which clients of a relay wait.

use minicbor::{CborLen, Decode, Encode};

/// The Redis channel on which the app publishes each change of a task, as a JSON object with its `task_id`.
pub const TASK_CHANGES: &str = "task-events";

/// The header of the app's answer to a relay that tells the mark of a task which is not finished. The relay removes it.
pub const TASK_MARK: &str = "x-loro-internal-task-mark";

/// The most tasks of one [`MarksRequest`].
pub const MAX_MARKS: usize = 500;

/// Asks for the marks of tasks.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct MarksRequest {
    /// The ids of at most [`MAX_MARKS`] tasks.
    #[n(0)]
    pub tasks: Vec<String>,
}

/// The marks of the tasks of a [`MarksRequest`], in its order.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct Marks {
    /// A word that changes with the task; `None` if there is no such task.
    #[n(0)]
    pub marks: Vec<Option<String>>,
}
