//! The component `projects`: projects, their members, the tokens of agents, and updates in quarantine.
//!
//! It only connects requests with libraries. Once it has answered a request that changed access, it notifies the
//! relays, which check their clients again.

mod change;
mod member;
mod project;
mod quarantine;
mod request;
mod token;

use door::routes::Projects;
use request::{Answer, Request};

door::http_component!(route);

async fn route(request: Request<'_>) -> Answer<'_> {
    match request.route() {
        Projects::List => project::list(&request).await,
        Projects::Create => project::create(&request).await,
        Projects::Project { project } => project::get(&request, project).await,
        Projects::Change { project } => project::update(&request, project).await,
        Projects::Delete { project } => project::delete(&request, project).await,
        Projects::SetMember { project, user } => member::set(&request, project, user).await,
        Projects::RemoveMember { project, user } => member::remove(&request, project, user).await,
        Projects::Tokens { project } => token::list(&request, project).await,
        Projects::CreateToken { project } => token::create(&request, project).await,
        Projects::Quarantine { project } => quarantine::list(&request, project).await,
        Projects::Quarantined { project, rev } => quarantine::get(&request, project, rev).await,
        Projects::Restore { project, rev } => quarantine::restore(&request, project, rev).await,
        Projects::Discard { project, rev } => quarantine::delete(&request, project, rev).await,
        Projects::RevokeToken { project, token } => token::revoke(&request, project, token).await,
    }
}
