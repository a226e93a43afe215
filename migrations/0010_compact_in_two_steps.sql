-- All updates after a room's snapshot, up to `rev`, as one Loro update: made without the document's state, so it can
-- always be made. The rows that it holds stay in `loro_updates` until a snapshot holds them.
CREATE TABLE IF NOT EXISTS loro_blobs (
    project_id TEXT    NOT NULL PRIMARY KEY,
    rev        INTEGER NOT NULL,
    blob       BLOB    NOT NULL,
    version    BLOB    NOT NULL,           -- the encoded Loro version vector of snapshot and blob together
    waiting    TEXT    NOT NULL,           -- the revs that wait for other updates and are not in the blob, as JSON
    updated_at INTEGER NOT NULL            -- Unix seconds
);
CREATE INDEX IF NOT EXISTS loro_blobs_by_rev ON loro_blobs (project_id, rev);
-- The work on a room that one instance does at a time. A row is deleted when its work succeeds. Times are Unix seconds.
CREATE TABLE IF NOT EXISTS loro_leases (
    project_id TEXT    NOT NULL,
    work       TEXT    NOT NULL,           -- compact, merge
    holder     TEXT    NOT NULL,           -- a random id of the try
    rev        INTEGER NOT NULL,           -- the room's rev when the try began
    until      INTEGER NOT NULL,           -- no other try begins before this
    failures   INTEGER NOT NULL,           -- the tries since the last success, with the one under way
    due_at     INTEGER NOT NULL,           -- the earliest time of the next try
    PRIMARY KEY (project_id, work)
) WITHOUT ROWID;
-- The panics that instances reported before they died. Only such a report can blame an update.
CREATE TABLE IF NOT EXISTS loro_panics (
    run        TEXT    NOT NULL PRIMARY KEY, -- the random id of the run
    project_id TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    created_at INTEGER NOT NULL            -- Unix seconds
);
