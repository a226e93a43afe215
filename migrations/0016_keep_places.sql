-- The knowledge about the places at a service that has refused a task, because it had no place or was asked too often.
-- A service that has never refused one has no row. Times are Unix seconds.
CREATE TABLE IF NOT EXISTS aigc_places (
    service     TEXT    NOT NULL PRIMARY KEY,
    places      INTEGER NOT NULL,          -- how many tasks were under way at the last refusal, and those taken beyond it
    refusals    INTEGER NOT NULL,          -- how many tries for one more place were refused in a row
    probe_at    INTEGER NOT NULL,          -- the earliest time of the next such try
    quiet_until INTEGER NOT NULL,          -- the service asked not to be called before
    doubts      INTEGER NOT NULL DEFAULT 0 -- how often in a row it has said that it is asked too often
) WITHOUT ROWID;
