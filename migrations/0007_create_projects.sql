-- Projects, and the access of users and agents to them. Times are Unix seconds.
CREATE TABLE IF NOT EXISTS projects (
    project_id TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    owner_id   TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,           -- for a deleted project: its place in the queue of purges
    access_rev INTEGER NOT NULL DEFAULT 1, -- counts the changes of access
    deleted_at INTEGER,                    -- when it was deleted; its id is not used again
    purged_at  INTEGER                     -- when all contents of the deleted project were gone
);
CREATE INDEX IF NOT EXISTS projects_by_owner ON projects (owner_id, project_id);
CREATE INDEX IF NOT EXISTS projects_to_purge ON projects (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE TABLE IF NOT EXISTS project_members (
    project_id TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    role       TEXT    NOT NULL,           -- read, write
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project_id, user_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS project_members_by_user ON project_members (user_id, project_id);
-- Tokens of agents. Only the digest of a token is stored.
CREATE TABLE IF NOT EXISTS project_tokens (
    token_id     TEXT    NOT NULL PRIMARY KEY,
    project_id   TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    role         TEXT    NOT NULL,         -- read, write
    digest       TEXT    NOT NULL,         -- SHA-256, in hexadecimal
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
);
CREATE INDEX IF NOT EXISTS project_tokens_by_project ON project_tokens (project_id, created_at);
CREATE INDEX IF NOT EXISTS assets_by_project ON assets (project_id);
-- Rooms and tasks from before there were projects belong to the user `dev`.
INSERT OR IGNORE INTO projects (project_id, name, owner_id, created_at, updated_at)
SELECT project_id, project_id, 'dev', 0, 0 FROM loro_snapshots
 UNION SELECT DISTINCT project_id, project_id, 'dev', 0, 0 FROM loro_updates
 UNION SELECT DISTINCT project_id, project_id, 'dev', 0, 0 FROM aigc_tasks;
