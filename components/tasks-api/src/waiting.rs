//! Waits for a task in this component, if no relay does.

use std::time::Duration;

use door::Head;
use platform::Ports;
use problem::Problem;
use tasks::{Task, rows};
use wire::LONGEST_WAIT;

/// The longest time that this component waits, in seconds, because a wait takes an instance. A relay waits itself, and
/// asks without `wait`.
pub(crate) const OWN_WAIT: u64 = 5;

/// The time between two looks at the row during a wait.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The wait of a caller who posts a task, as far as this component grants it.
pub(crate) struct WaitForEnd {
    pub(crate) seconds: u64,
    /// Says whether the caller asked by a header `Prefer`, so that the answer says that it was heeded.
    pub(crate) is_preference: bool,
}

/// The seconds in the parameter `wait`; `None` if there is none.
///
/// # Errors
/// 400 if they are more than [`LONGEST_WAIT`].
pub(crate) fn asked(head: &Head) -> Result<Option<u64>, Problem> {
    match head.parameter("wait").map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(wait)) if wait <= LONGEST_WAIT => Ok(Some(wait)),
        Some(_) => Err(Problem::bad_request(format!(
            "`wait` is a whole number of seconds up to {LONGEST_WAIT}."
        ))),
    }
}

/// The wait that a request for a new task asks for, in `?wait=` or in a header `Prefer` (RFC 7240).
///
/// # Errors
/// 400 if the parameter asks for more than [`LONGEST_WAIT`].
pub(crate) fn until_end(head: &Head) -> Result<Option<WaitForEnd>, Problem> {
    let (wait, is_preference) = match asked(head)? {
        Some(wait) => (Some(wait), false),
        None => (head.header("prefer").and_then(wire::preferred_wait), true),
    };
    Ok(wait.filter(|wait| *wait > 0).map(|wait| WaitForEnd {
        seconds: wait.min(OWN_WAIT),
        is_preference,
    }))
}

/// Looks at a task until `is_news`, or for this number of seconds. `None` if the task is gone.
pub(crate) async fn look(
    ports: Ports<'_>,
    id: &str,
    seconds: u64,
    is_news: impl Fn(&Task) -> bool,
) -> Result<Option<Task>, Problem> {
    let looks = Duration::from_secs(seconds).as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        ports.clock.sleep(LOOK_EVERY).await;
        match rows::get(ports.database, id).await? {
            Some(task) if !is_news(&task) => {}
            looked => return Ok(looked),
        }
    }
    Ok(rows::get(ports.database, id).await?)
}
