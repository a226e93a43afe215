-- Generation tasks. The row is the truth; messages only save time. Times are Unix seconds.
CREATE TABLE IF NOT EXISTS aigc_tasks (
    task_id          TEXT    NOT NULL PRIMARY KEY,
    project_id       TEXT    NOT NULL,
    task_type        TEXT    NOT NULL,
    status           TEXT    NOT NULL,     -- pending, processing, completed, failed, cancelled
    external_task_id TEXT,
    external_service TEXT,
    params           TEXT    NOT NULL,     -- JSON
    result_url       TEXT,
    result_data      TEXT,                 -- JSON
    error_message    TEXT,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    completed_at     INTEGER,
    retry_count      INTEGER NOT NULL DEFAULT 0,
    max_retries      INTEGER NOT NULL DEFAULT 3,
    -- The columns of the engine.
    lease_until      INTEGER,              -- the end of an instance's claim
    next_attempt_at  INTEGER,              -- the earliest time of the next step
    projected_status TEXT,                 -- the status that the document shows; NULL if it does not show this version
    version          INTEGER NOT NULL DEFAULT 0, -- counts the changes that a document shows
    projected_rev    INTEGER NOT NULL DEFAULT 0, -- the room's rev at which the document was last checked
    node_id          TEXT,                 -- the node that it was posted for
    run              INTEGER NOT NULL DEFAULT 0, -- how often a user has retried the task
    attempts         INTEGER NOT NULL DEFAULT 0, -- how many submissions of this run have begun
    idempotency_key  TEXT,
    request_digest   TEXT,                 -- the digest of the request that came with the key
    callback_url     TEXT,                 -- the agent's address for the notification
    notify_at        INTEGER,              -- the earliest time of the notification; NULL if none is due
    notify_attempts  INTEGER NOT NULL DEFAULT 0,
    accepted_at      INTEGER,              -- when the service accepted this run
    earlier_jobs     TEXT,                 -- the jobs of earlier runs that may still have a result, one a line
    seq              INTEGER NOT NULL DEFAULT 0, -- the order of posting in the project; a retry counts as posted
    turn             INTEGER NOT NULL DEFAULT 0, -- the number of the last claim for a submission, over all tasks
    waits            INTEGER NOT NULL DEFAULT 0, -- how often in a row the service had no place
    message          TEXT,                 -- why the task waits, in words for its user
    shown_on         TEXT,                 -- the nodes that have shown this version, as a JSON array
    is_probe         INTEGER NOT NULL DEFAULT 0, -- 1 if the last claim was a try beyond the places that are known
    repaired         INTEGER NOT NULL DEFAULT 0, -- 1 if a node was repaired since this version was projected
    tags             TEXT,                 -- the caller's words for the task, as a JSON array
    metadata         TEXT,                 -- the caller's notes, as a JSON object
    progress         REAL,                 -- how much of the job is done, from 0 to 1, if the service reports it
    cancel_at        INTEGER,              -- the task is cancelled if it has not ended by then
    result_expires_at INTEGER,             -- when the service deletes the result, if that is kept there alone
    has_product      INTEGER NOT NULL DEFAULT 0, -- 1 if the service has done its job and the result is being copied
    notify_of        TEXT,                 -- the events of which the agent is notified, with commas between; NULL: the ends
    signature        TEXT                  -- the service wants it back if a task goes on from the result; no client sees it
);
CREATE INDEX IF NOT EXISTS aigc_tasks_by_project ON aigc_tasks (project_id, created_at);
CREATE INDEX IF NOT EXISTS aigc_tasks_by_external_id ON aigc_tasks (external_service, external_task_id);
