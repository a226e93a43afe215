-- The state of each room up to and including `rev`: one row for each project, which is overwritten.
CREATE TABLE IF NOT EXISTS loro_snapshots (
    project_id TEXT    NOT NULL PRIMARY KEY,
    snapshot   BLOB    NOT NULL,           -- a Loro snapshot, or a Loro update: see `has_state`
    version    BLOB    NOT NULL,           -- its encoded Loro version vector
    updated_at INTEGER NOT NULL,           -- Unix seconds
    rev        INTEGER NOT NULL DEFAULT 0,
    has_state  INTEGER NOT NULL DEFAULT 1  -- 0 if it is a Loro update, because no merge could compute its state
);
