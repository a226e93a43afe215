-- Generation tasks. The row is the truth; messages only make it quicker. Times are Unix seconds.
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
    -- What the engine needs.
    lease_until      INTEGER,              -- claimed until then
    next_attempt_at  INTEGER,              -- not before then
    projected_status TEXT,                 -- the status that the room's document shows; NULL: not this version
    version          INTEGER NOT NULL DEFAULT 0, -- counts the changes that a document shows
    projected_rev    INTEGER NOT NULL DEFAULT 0, -- the room's rev up to which its document was looked at
    node_id          TEXT,                 -- the node that it was posted for
    run              INTEGER NOT NULL DEFAULT 0, -- how often its user has set it back
    attempts         INTEGER NOT NULL DEFAULT 0, -- how often this run was begun to be submitted
    idempotency_key  TEXT,
    request_digest   TEXT,                 -- of the request that came with the key
    callback_url     TEXT,                 -- whom to tell of the end
    notify_at        INTEGER,              -- not told yet, and not to be before then
    notify_attempts  INTEGER NOT NULL DEFAULT 0,
    accepted_at      INTEGER,              -- when its service accepted this run
    earlier_jobs     TEXT                  -- names of earlier runs' jobs, of which there may be a result, a line each
);
CREATE INDEX IF NOT EXISTS aigc_tasks_by_project ON aigc_tasks (project_id, created_at);
CREATE INDEX IF NOT EXISTS aigc_tasks_by_external_id ON aigc_tasks (external_service, external_task_id);
