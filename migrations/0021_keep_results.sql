-- Results that their services keep and that are being copied: the service's answer, until the task ends. The column
-- `result_expires_at` of `aigc_tasks` is declared in 0002. Times are Unix seconds.
CREATE TABLE IF NOT EXISTS aigc_products (
    task_id  TEXT    NOT NULL PRIMARY KEY,
    run      INTEGER NOT NULL,             -- the run of the task that it is the product of
    media    TEXT    NOT NULL,             -- the pictures and films, as JSON: where each is, and whether it is kept here
    data     TEXT    NOT NULL,             -- more about them, as a JSON object
    tries    INTEGER NOT NULL DEFAULT 0,   -- the failures in a row of the copy under way
    asset_id TEXT,                         -- the upload in parts of the copy under way
    told_at  INTEGER NOT NULL              -- when the service reported it
);
-- Uploads in parts to a bucket that are not complete.
CREATE TABLE IF NOT EXISTS asset_uploads (
    asset_id   TEXT    NOT NULL PRIMARY KEY,
    project_id TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    upload_id  TEXT,                       -- the bucket's name of it; NULL until the bucket has named it
    tags       TEXT    NOT NULL,           -- the bucket's tag of each part, as a JSON array
    length     INTEGER NOT NULL,           -- the bytes of all parts
    digest     TEXT    NOT NULL,           -- of each part with the digest before it, in hexadecimal
    touched_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS asset_uploads_by_time ON asset_uploads (touched_at);
