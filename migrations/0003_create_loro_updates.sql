-- The log of each room: every update since its snapshot, in order. `rev` is dense in a project
-- (1, 2, 3 …) and never used again, even after compaction.
CREATE TABLE IF NOT EXISTS loro_updates (
    project_id TEXT    NOT NULL,
    rev        INTEGER NOT NULL,
    payload    BLOB    NOT NULL,           -- a Loro blob; empty if it was quarantined
    origin     TEXT    NOT NULL,           -- the writer, such as a relay's id
    created_at INTEGER NOT NULL,           -- Unix seconds
    serial     INTEGER,                    -- its number among the updates of its origin; NULL if it has none
    spans      TEXT,                       -- JSON: [peer, first counter, counter after the last] of each of its peers
    digest     INTEGER,                    -- a digest of the payload
    waits      INTEGER NOT NULL DEFAULT 0, -- 1 if it may wait for operations that the room had not got
    PRIMARY KEY (project_id, rev)
) WITHOUT ROWID;
-- An append reads the snapshot's rev; with this index it need not read the snapshot itself.
CREATE INDEX IF NOT EXISTS loro_snapshots_by_rev ON loro_snapshots (project_id, rev);
