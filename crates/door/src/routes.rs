//! The routes of the app, each declared once. A request that fits none of them is not served.
//!
//! The matcher, the header `Allow`, the typed parts of a path, the tables in the documentation, and the tests that walk
//! all routes are made from this list.

use crate::route::{Mark, Need, ProjectSource, Routes, Spec, routes};

routes! {
    /// The document of a project, and the relay's requests to the app.
    Sync = "sync" {
        /// Reports whether the app can serve
        Health = GET "/health", Nothing, Nowhere, Unready, OnLine;
        /// Reads the document: a Loro blob, or JSON
        Document { project } = GET "/sync/{project}", Read, Opens;
        /// Applies one update
        Update { project } = POST "/sync/{project}", Write, Opens;
        /// Appends updates to the logs of rooms
        Append = POST "/internal/append", Relay, Nowhere, TrustsSchema, OnLine;
        /// Reads the revs and access counts of rooms
        Heads = POST "/internal/heads", Relay, Nowhere, OnLine;
        /// Judges the credentials of WebSockets
        Access = POST "/internal/access", Relay, Nowhere, Unready, OnLine;
        /// Carries requests of the relay one after the other
        Line = POST "/internal/line", Relay, Nowhere;
        /// Compacts the rooms that are due
        Sweep = POST "/internal/sweep", Relay, Nowhere;
        /// Computes a room's state in an instance of its own, which may take minutes
        Merge { project } = POST "/internal/merge/{project}", Relay, Nowhere;
        /// Reads or compacts a room in an instance of its own
        Work { project } = POST "/internal/rooms/{project}/work", Relay, Nowhere;
        /// Reads the state of a room
        State { project } = GET "/internal/rooms/{project}/state", Relay, Nowhere, OnLine;
        /// Reads what a client lacks of the state of a room
        Lacking { project } = POST "/internal/rooms/{project}/state", Relay, Nowhere, OnLine;
        /// Reports which updates wait for others
        Waiting { project } = POST "/internal/rooms/{project}/waiting", Relay, Nowhere;
        /// Reads the updates after a rev
        Updates { project } = GET "/internal/rooms/{project}/updates", Relay, Nowhere, OnLine;
        /// Compacts a room
        Compact { project } = POST "/internal/rooms/{project}/compact", Relay, Nowhere;
    }

    /// The projects, their members, and the tokens of agents.
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
        /// Lists the updates in quarantine
        Quarantine { project } = GET "/projects/{project}/quarantine", Own, Path;
        /// Reads an update in quarantine
        Quarantined { project, rev } = GET "/projects/{project}/quarantine/{rev}", Own, Path;
        /// Appends an update in quarantine to the log again
        Restore { project, rev } = POST "/projects/{project}/quarantine/{rev}/restore", Own, Path;
        /// Deletes an update in quarantine for good
        Discard { project, rev } = DELETE "/projects/{project}/quarantine/{rev}", Own, Path;
    }

    /// The generation tasks and their results.
    Tasks = "tasks" {
        /// Lists tasks
        List = GET "/tasks", Principal, Nowhere;
        /// Posts a task
        Post = POST "/tasks", Write, FromRow;
        /// Reads a task, at once or when it changes
        Task { task } = GET "/tasks/{task}", Read, FromRow;
        /// Streams a task's changes as server-sent events
        Events { task } = GET "/tasks/{task}/events", Read, FromRow;
        /// Streams the changes of a project's tasks as server-sent events
        ProjectEvents { project } = GET "/projects/{project}/tasks/events", Read, Path;
        /// Cancels a task
        Cancel { task } = POST "/tasks/{task}/cancel", Write, FromRow;
        /// Retries a failed or cancelled task
        Retry { task } = POST "/tasks/{task}/retry", Write, FromRow;
        /// Reads the marks of tasks for which clients wait
        Marks = POST "/internal/tasks/marks", Relay, Nowhere;
        /// Stores a picture or a film
        Upload { project } = POST "/projects/{project}/assets", Write, Path;
        /// Begins a large upload, and stores its first part
        BeginUpload { project } = POST "/projects/{project}/uploads", Write, Path;
        /// Stores the next part of a large upload
        UploadPart { project, upload } = POST "/projects/{project}/uploads/{upload}", Write, Path;
        /// Gives a large upload up
        GiveUpUpload { project, upload } = DELETE "/projects/{project}/uploads/{upload}", Write, Path;
        /// Reads a result that is kept here
        Asset { asset } = GET "/assets/{asset}", Read, FromRow;
    }

    /// The callbacks of services.
    Webhooks = "webhooks" {
        /// Takes a service's callback
        CallBack { service } = POST "/webhooks/{service}", Signature, Nowhere;
    }

    /// The work that is due, and projects as archives.
    Poller = "poller" {
        /// Does everything that is due
        Poll = POST "/internal/poll", Relay, Nowhere;
        /// Reports the app's numbers for operators, in the text format of Prometheus
        Metrics = GET "/internal/metrics", Relay, Nowhere;
        /// Makes one submission that is due
        Submit { service } = POST "/internal/submissions/{service}", Relay, Nowhere;
        /// Brings one document up to date with its tasks
        Project { project } = POST "/internal/projections/{project}", Relay, Nowhere;
        /// Reads a project as one archive: its document, its tasks and its assets
        Export { project } = GET "/projects/{project}/export", Own, Path;
        /// Makes a project from an archive
        Import { project } = PUT "/projects/{project}/import", Principal, Nowhere;
        /// Lists all projects, for a backup
        Archives = GET "/internal/archives", Relay, Nowhere;
        /// Reads a project as one archive that names its owner and its members
        Archive { project } = GET "/internal/archives/{project}", Relay, Nowhere;
        /// Makes a project from such an archive, with its owner and its members
        Restore { project } = PUT "/internal/archives/{project}", Relay, Nowhere;
    }

    /// The page.
    Console = "console" {
        /// Reads a file of the page
        File { file } = GET "/{file...}", Nothing, Nowhere, SettingsOnly;
    }
}
