//! The component `tasks`: generation tasks over HTTP, and the results that this server stores.
//!
//! It only connects requests with libraries. It stores a new task, answers, and then has another instance submit the
//! task.

mod asset;
mod events;
mod list;
mod marks;
mod request;
mod task;
mod upload;
mod waiting;

use door::routes::Tasks;
use request::{Answer, Request};

door::http_component!(route);

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
