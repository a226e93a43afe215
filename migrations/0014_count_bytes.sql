-- The bytes that each project and each owner keeps, as they were last counted. Times are Unix seconds.
CREATE TABLE IF NOT EXISTS quota_usage (
    holder          TEXT    NOT NULL PRIMARY KEY, -- project:{project_id} or owner:{owner_id}
    document        INTEGER NOT NULL,      -- snapshots, logs and quarantines
    room            INTEGER NOT NULL DEFAULT 0, -- what counts for the largest size of a document
    rest            INTEGER NOT NULL,      -- assets and tasks
    counted_at      INTEGER NOT NULL,
    rest_counted_at INTEGER NOT NULL
) WITHOUT ROWID;
-- The projects and owners that take no more. The table is usually empty, so an append looks into it at no cost.
CREATE TABLE IF NOT EXISTS quota_full (
    holder     TEXT    NOT NULL PRIMARY KEY,
    code       TEXT    NOT NULL,           -- room_full, quota
    reason     TEXT    NOT NULL,           -- in words for a user
    largest    INTEGER NOT NULL,           -- the largest update that is still taken, in bytes
    counted_at INTEGER NOT NULL
) WITHOUT ROWID;
