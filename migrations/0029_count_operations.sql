-- The operations of large documents, as a compaction or a merge last counted them. The column `room` of `quota_usage` is
-- declared in 0014, and `signature` of `aigc_tasks` in 0002.
CREATE TABLE IF NOT EXISTS loro_operations (
    project_id TEXT    NOT NULL PRIMARY KEY,
    rev        INTEGER NOT NULL,           -- the room's rev when they were counted
    operations INTEGER NOT NULL
) WITHOUT ROWID;
