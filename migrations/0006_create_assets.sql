-- Results that are too large for a row or a document. They never change.
CREATE TABLE IF NOT EXISTS assets (
    asset_id   TEXT    NOT NULL PRIMARY KEY,
    project_id TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    length     INTEGER NOT NULL,           -- bytes
    digest     TEXT    NOT NULL,           -- SHA-256, in hexadecimal
    created_at INTEGER NOT NULL,           -- Unix seconds
    bytes      BLOB,                       -- NULL if they are in a bucket
    task_id    TEXT,                       -- of the task that it is a result or a picture of
    settle_at  INTEGER                     -- when to look whether the task's row refers to it; NULL if that is known
);
