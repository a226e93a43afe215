-- Assets that are whole, in the order in which the retention looks whether anything needs them. A row of `assets` may hold
-- megabytes, so the columns that the retention reads and writes are in this table.
CREATE TABLE IF NOT EXISTS asset_looks (
    asset_id   TEXT    NOT NULL PRIMARY KEY,
    project_id TEXT    NOT NULL,
    task_id    TEXT,
    in_bucket  INTEGER NOT NULL,           -- 1 if its bytes are in a bucket
    created_at INTEGER NOT NULL,
    needed_at  INTEGER NOT NULL            -- when it was stored, or last found to be needed
);
CREATE INDEX IF NOT EXISTS asset_looks_by_time ON asset_looks (needed_at);
CREATE INDEX IF NOT EXISTS asset_looks_by_project ON asset_looks (project_id, needed_at);
CREATE TRIGGER IF NOT EXISTS asset_stored AFTER INSERT ON assets WHEN NEW.settle_at IS NULL
BEGIN
    INSERT OR IGNORE INTO asset_looks (asset_id, project_id, task_id, in_bucket, created_at, needed_at)
    VALUES (NEW.asset_id, NEW.project_id, NEW.task_id, NEW.bytes IS NULL, NEW.created_at, NEW.created_at);
END;
CREATE TRIGGER IF NOT EXISTS asset_settled AFTER UPDATE OF settle_at ON assets WHEN NEW.settle_at IS NULL
BEGIN
    INSERT OR IGNORE INTO asset_looks (asset_id, project_id, task_id, in_bucket, created_at, needed_at)
    VALUES (NEW.asset_id, NEW.project_id, NEW.task_id, NEW.bytes IS NULL, NEW.created_at, NEW.created_at);
END;
CREATE TRIGGER IF NOT EXISTS asset_deleted AFTER DELETE ON assets
BEGIN
    DELETE FROM asset_looks WHERE asset_id = OLD.asset_id;
END;
INSERT OR IGNORE INTO asset_looks (asset_id, project_id, task_id, in_bucket, created_at, needed_at)
SELECT asset_id, project_id, task_id, bytes IS NULL, created_at, created_at FROM assets WHERE settle_at IS NULL;
-- Assets that are being deleted: first their rows, by the trigger, then their bytes in the bucket, then the row here.
CREATE TABLE IF NOT EXISTS asset_removals (
    asset_id  TEXT    NOT NULL PRIMARY KEY,
    in_bucket INTEGER NOT NULL,
    failed_at INTEGER NOT NULL DEFAULT 0   -- when the bucket failed last; those that failed longest ago come first
);
CREATE TRIGGER IF NOT EXISTS asset_removed AFTER INSERT ON asset_removals
BEGIN
    DELETE FROM asset_copies WHERE copy_id = NEW.asset_id;
    DELETE FROM assets WHERE asset_id = NEW.asset_id;
END;
CREATE INDEX IF NOT EXISTS asset_copies_by_copy ON asset_copies (copy_id);
CREATE INDEX IF NOT EXISTS assets_to_settle_by_task ON assets (task_id) WHERE settle_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS loro_quarantine_by_time ON loro_quarantine (quarantined_at);
