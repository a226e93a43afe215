//! The routes of archives: `/projects/{project}/export` and `/projects/{project}/import` for users, and
//! `/internal/archives/{project}` for a backup.

use auth::{
    Denied,
    projects::{self, Project, Scope},
};
use door::{Admitted, Reply, routes::Poller};
use futures_util::stream::LocalBoxStream;
use platform::Ports;
use problem::Problem;
use serde_json::json;

type Request<'a> = Admitted<'a, Poller>;
type Answer<'a> = Result<Reply<'a>, Problem>;

/// The most projects in one answer.
const LIMIT: u64 = 200;

/// Lists all projects by their ids, page by page.
pub(crate) async fn list<'a>(request: &Request<'a>) -> Answer<'a> {
    let limit = request.head().limit(LIMIT, LIMIT)?;
    let after = request.head().parameter("cursor").unwrap_or_default();
    let database = request.ports().database;
    // One row more shows whether there is another page.
    let mut found = projects::list(database, Scope::All, after, limit + 1).await?;
    let has_more = found.len() as u64 > limit;
    found.truncate(limit as usize);
    let ids: Vec<&str> = found
        .iter()
        .map(|found| found.project_id.as_str())
        .collect();
    let next = ids.last().filter(|_| has_more);
    Ok(Reply::json(
        200,
        &json!({ "projects": ids, "next_cursor": next }),
    ))
}

/// Sends a project as an archive.
pub(crate) async fn export<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let (ports, project) = (request.ports(), find(request.ports(), project).await?);
    Ok(sent(archive::export(ports, &project).await?))
}

/// Sends a project as an archive that names its owner and its members.
pub(crate) async fn back_up<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let (ports, project) = (request.ports(), find(request.ports(), project).await?);
    Ok(sent(archive::back_up(ports, &project).await?))
}

async fn find(ports: Ports<'_>, project: &str) -> Result<Project, Problem> {
    let found = projects::get(ports.database, project).await?;
    Ok(found.ok_or(Denied::NoSuchProject)?)
}

fn sent(parts: LocalBoxStream<'_, Vec<u8>>) -> Reply<'_> {
    Reply::parts(200, parts)
        .media_type(archive::MEDIA_TYPE)
        .header("cache-control", "no-store")
        .header(
            "content-disposition",
            "attachment; filename=\"project.tar\"",
        )
}

/// Makes a project of the archive in the body. The caller owns it; the trusted backend names the owner.
pub(crate) async fn import<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let caller = request.principal()?;
    let named = request.head().parameter("owner_id");
    let owner = caller.as_owner()?.or(named).unwrap_or_default();
    if !projects::is_user_id(owner) {
        let words = "must be the id of the user who will own the project";
        return Err(Problem::invalid_field("owner_id", words));
    }
    let archive = body(request, project).await?;
    let imported = archive::import(request.ports(), project, owner, &archive).await?;
    Ok(made(request, project, &imported))
}

/// Makes a project of the archive in the body, with the owner and the members that the archive names.
pub(crate) async fn restore<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let archive = body(request, project).await?;
    let imported = archive::restore(request.ports(), project, &archive).await?;
    Ok(made(request, project, &imported))
}

/// Reads the archive, once the id of the new project is checked.
async fn body(request: &Request<'_>, project: &str) -> Result<Vec<u8>, Problem> {
    if !wire::is_project_id(project) {
        return Err(Problem::bad_project_id());
    }
    request.body(archive::MAX_BYTES).await
}

fn made<'a>(request: &Request<'a>, project: &str, imported: &archive::Imported) -> Reply<'a> {
    let told = json!({
        "project_id": project, "tasks": imported.tasks, "assets": imported.assets,
    });
    let location = request.location(&format!("/projects/{project}"));
    Reply::json(201, &told).header("location", location)
}
