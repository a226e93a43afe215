//! The component `tasks`: generation tasks over HTTP, and the results that this server stores.
//!
//! It only connects requests with libraries. It stores a new task, answers, and then has another instance submit the
//! task.

mod asset;
mod events;
mod list;
mod marks;
mod task;
mod upload;
mod waiting;

use auth::{Denied, Grant, Principal};
use door::{Admitted, Reply, routes::Tasks};
use platform::Ports;
use problem::Problem;

door::http_component!(route);

type Request<'a> = Admitted<'a, Tasks>;
type Answer<'a> = Result<Reply<'a>, Problem>;

async fn route(request: Request<'_>) -> Answer<'_> {
    match request.route() {
        Tasks::List => list::get(&request).await,
        Tasks::Post => task::post(&request).await,
        Tasks::Task { task } => task::get(&request, task).await,
        Tasks::Events { task } => events::of_task(&request, task).await,
        Tasks::ProjectEvents { project } => events::of_project(&request, project).await,
        Tasks::Cancel { task } => task::cancel(&request, task).await,
        Tasks::Retry { task } => task::retry(&request, task).await,
        Tasks::Marks => marks::post(&request).await,
        Tasks::Upload { project } => upload::post(&request, project).await,
        Tasks::BeginUpload { project } => upload::begin(&request, project).await,
        Tasks::UploadPart { project, upload } => upload::go_on(&request, project, upload).await,
        Tasks::GiveUpUpload { project, upload } => upload::give_up(&request, project, upload).await,
        Tasks::Asset { asset } => asset::get(&request, asset).await,
    }
}

/// Finds what the caller may do with a row of this project. For a caller without access, the row does not exist.
async fn access(ports: Ports<'_>, caller: &Principal, project: &str) -> Result<Grant, Problem> {
    match caller.access(ports, project).await {
        Err(Denied::Forbidden | Denied::NoSuchProject) => Err(Problem::not_found()),
        other => Ok(other?),
    }
}
