//! The waits for tasks: `GET /tasks/{id}?wait=N` until it changes, `POST /tasks?wait=N` until it ends, and
//! [streams](events) of what changes.
//!
//! The relay holds such a request itself, so that it costs the app no instance. It asks the app once, without `wait`,
//! which also checks whether the client may ask; then it waits until the task changes, and asks once more, for the
//! answer. It learns of a change through Redis ([`wire::TASK_CHANGES`]). A message may be lost, and there may be no
//! Redis, so a [`comparison`](compare) asks the app at an interval about all tasks together that are waited for.

pub(crate) mod compare;
pub(crate) mod desk;
mod events;
mod posting;
pub(crate) mod wait;
pub(crate) mod waiters;
