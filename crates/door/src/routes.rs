//! Every route of the app, declared once. A request that fits none of them is not served.
//!
//! From this list come the matcher, the header `Allow`, the typed parts of a path, the tables in the documentation, and
//! the tests that walk all routes.

use crate::route::{Mark, Names, Need, Routes, Spec, routes};

routes! {
    /// The document of a project, and what the relay asks of the app.
    Sync = "sync" {
        /// Tells whether the app can serve
        Health = GET "/health", Nothing, Nowhere, Unready;
        /// Reads the document: a Loro snapshot, or JSON
        Document { project } = GET "/sync/{project}", Read, Opens;
        /// Applies one update
        Update { project } = POST "/sync/{project}", Write, Opens;
        /// Appends updates to the logs of rooms
        Append = POST "/internal/append", Relay, Nowhere, TrustsSchema;
        /// Reads the revs and access counts of rooms
        Heads = POST "/internal/heads", Relay, Nowhere;
        /// Judges the credentials of WebSockets
        Access = POST "/internal/access", Relay, Nowhere, Unready;
        /// Compacts the rooms that are due
        Sweep = POST "/internal/sweep", Relay, Nowhere;
        /// Merges a room in an instance of its own
        Merge { project } = POST "/internal/merge/{project}", Relay, Nowhere;
        /// Reads the state of a room
        State { project } = GET "/internal/rooms/{project}/state", Relay, Nowhere;
        /// Reads the updates after a rev
        Updates { project } = GET "/internal/rooms/{project}/updates", Relay, Nowhere;
        /// Compacts a room
        Compact { project } = POST "/internal/rooms/{project}/compact", Relay, Nowhere;
    }

    /// Projects, their members, and the tokens of agents.
    Projects = "projects" {
        /// Lists the caller's projects
        List = GET "/projects", Principal, Nowhere;
        /// Makes a project
        Create = POST "/projects", Principal, Nowhere;
        /// Reads a project and its members
        Project { project } = GET "/projects/{project}", Read, Path;
        /// Renames a project, or gives it to a member
        Change { project } = PATCH "/projects/{project}", Own, Path;
        /// Deletes a project and everything in it
        Delete { project } = DELETE "/projects/{project}", Own, Path;
        /// Gives a user a role
        SetMember { project, user } = PUT "/projects/{project}/members/{user}", Own, Path;
        /// Takes a user's role away
        RemoveMember { project, user } = DELETE "/projects/{project}/members/{user}", OwnOrSelf, Path;
        /// Lists a project's tokens
        Tokens { project } = GET "/projects/{project}/tokens", Own, Path;
        /// Makes a token
        CreateToken { project } = POST "/projects/{project}/tokens", Own, Path;
        /// Revokes a token
        RevokeToken { project, token } = DELETE "/projects/{project}/tokens/{token}", Own, Path;
    }

    /// Generation tasks and their results.
    Tasks = "tasks" {
        /// Lists tasks
        List = GET "/tasks", Principal, Nowhere;
        /// Posts a task
        Post = POST "/tasks", Write, Row;
        /// Reads a task, at once or when it changes
        Task { task } = GET "/tasks/{task}", Read, Row;
        /// Cancels a task
        Cancel { task } = POST "/tasks/{task}/cancel", Write, Row;
        /// Retries a failed or cancelled task
        Retry { task } = POST "/tasks/{task}/retry", Write, Row;
        /// Reads a result that is kept here
        Asset { asset } = GET "/assets/{asset}", Read, Row;
    }

    /// Callbacks of services.
    Webhooks = "webhooks" {
        /// Takes a service's callback
        CallBack { service } = POST "/webhooks/{service}", Signature, Nowhere;
    }

    /// The work that is due.
    Poller = "poller" {
        /// Does everything that is due
        Poll = POST "/internal/poll", Relay, Nowhere;
        /// Makes one submission that is due
        Submit { service } = POST "/internal/submissions/{service}", Relay, Nowhere;
        /// Brings one document up to date with its tasks
        Project { project } = POST "/internal/projections/{project}", Relay, Nowhere;
    }

    /// The page.
    Console = "console" {
        /// Reads a file of the page
        File { file } = GET "/{file...}", Nothing, Nowhere, SettingsOnly;
    }
}
