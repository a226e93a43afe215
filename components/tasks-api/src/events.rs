//! `GET /tasks/{task}/events` and `GET /projects/{project}/tasks/events`: the changes of tasks, as server-sent events.
//!
//! A relay holds the stream. This component only answers with the news since the event that the request names
//! in `Last-Event-ID`, and gives the relay the place from which to continue ([`wire::TASK_EVENTS`]).
//!
//! In the stream of a task, the id of an event is the task's mark. In that of a project, it is the number of a change;
//! a stream begins with the tasks that are not finished.

use std::fmt::Write;

use auth::Role;
use door::Reply;
use problem::{Kind, Problem};
use tasks::{
    Task,
    rows::{self, Changes},
};

use crate::{
    request::{Answer, Request},
    task,
};

/// The most events of one answer.
const PAGE: u64 = 100;

/// Answers with the news of one task.
pub(crate) async fn of_task<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let (ports, head) = (request.ports(), request.head());
    let task = task::find(ports, &request.principal()?, id, Role::Read).await?;
    held(request)?;
    let mark = task.mark();
    let is_known = head.header("last-event-id") == Some(&mark);
    let is_final = task.status.is_final();
    if is_known && is_final {
        // A browser does not connect again after this status.
        return Ok(Reply::empty(204).header("cache-control", "no-store"));
    }
    let mut events = String::new();
    if !is_known {
        write(request, &mut events, &mark, &task).await?;
    }
    let next = if is_final { wire::END_OF_EVENTS } else { &mark };
    Ok(reply(events, next.to_owned()))
}

/// Answers with the news of the tasks of a project.
pub(crate) async fn of_project<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    held(request)?;
    let database = request.ports().database;
    let last = rows::last_changes(database, &[project.to_owned()]).await?;
    let newest = last.first().copied().unwrap_or(0);
    let place = Place::read(request.head().header("last-event-id"), newest);
    let (after, until, open) = match place {
        Place::Begun { after, until } => (after, until, true),
        Place::After(after) => (after, newest, false),
    };
    let changes = Changes {
        project_id: project,
        after,
        until,
        open,
        limit: PAGE,
    };
    let changes = rows::changes(database, changes).await?;
    let mut is_whole = (changes.len() as u64) < PAGE;
    let (mut events, mut last) = (String::new(), after);
    for (change, task) in &changes {
        if events.len() > wire::MAX_EVENTS {
            is_whole = false;
            break;
        }
        write(request, &mut events, &change.to_string(), task).await?;
        last = *change;
    }
    if is_whole && last < until {
        // An id alone is no event, but the client resumes from it.
        let _ = write!(events, "id: {until}\n\n");
        last = until;
    }
    let next = match (is_whole, open) {
        (true, _) => Place::After(last).to_string(),
        (false, true) => Place::Begun { after: last, until }.to_string() + wire::MORE_EVENTS,
        (false, false) => Place::After(last).to_string() + wire::MORE_EVENTS,
    };
    Ok(reply(events, next))
}

/// A place in the stream of a project.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// A place within the tasks that were not finished when the stream began, after this change. Once they are sent, the
    /// stream goes on after `until`.
    Begun { after: i64, until: i64 },
    /// A place after this change.
    After(i64),
}

impl Place {
    /// Reads the place that a request names, if the newest change is this one. Any other text names the beginning.
    fn read(text: Option<&str>, newest: i64) -> Self {
        let number = |text: &str| text.parse().ok().filter(|n| (0..=newest).contains(n));
        let text = text.unwrap_or_default();
        let begun = text.split_once('/').and_then(|(after, until)| {
            let (after, until) = (number(after)?, number(until)?);
            Some(Self::Begun { after, until })
        });
        begun
            .or_else(|| number(text).map(Self::After))
            .unwrap_or(Self::Begun {
                after: 0,
                until: newest,
            })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begun { after, until } => write!(f, "{after}/{until}"),
            Self::After(after) => write!(f, "{after}"),
        }
    }
}

/// Refuses a stream that no relay holds.
fn held(request: &Request<'_>) -> Result<(), Problem> {
    if request.head().is_from_relay() {
        return Ok(());
    }
    let words = "Streams of events are held by the relay, and there is none here: poll with GET /tasks/{id}?wait=5, \
                 or read GET /tasks again.";
    Err(Problem::new(Kind::NO_STREAMS, words))
}

/// Writes the event of a task as it is now.
async fn write(
    request: &Request<'_>,
    events: &mut String,
    id: &str,
    task: &Task,
) -> Result<(), Problem> {
    let data = task::described(request, task).await?;
    // JSON without blanks is one line.
    let _ = write!(
        events,
        "id: {id}\nevent: {}\ndata: {data}\n\n",
        task.status.as_str()
    );
    Ok(())
}

fn reply<'a>(events: String, next: String) -> Reply<'a> {
    Reply::new(200)
        .media_type("text/event-stream")
        .header("cache-control", "no-store")
        .header(wire::TASK_EVENTS, next)
        .body(events.into_bytes())
}
