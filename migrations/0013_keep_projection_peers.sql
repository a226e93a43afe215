-- The peer under which the app writes tasks into a room's document. It is random, so that no other database has it. It
-- is deleted when operations under it may leave the document, and the next projection makes a new one.
CREATE TABLE IF NOT EXISTS loro_projection_peers (
    project_id TEXT    NOT NULL PRIMARY KEY,
    peer       INTEGER NOT NULL            -- positive
) WITHOUT ROWID;
-- The rooms whose state no merge could compute yet. The column `has_state` is declared in 0001.
CREATE INDEX IF NOT EXISTS loro_snapshots_without_state ON loro_snapshots (project_id) WHERE has_state = 0;
