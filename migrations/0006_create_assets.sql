-- Results that are too large for a row or a document. They never change.
CREATE TABLE IF NOT EXISTS assets (
    asset_id   TEXT    NOT NULL PRIMARY KEY,
    project_id TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    length     INTEGER NOT NULL,           -- bytes
    digest     TEXT    NOT NULL,           -- SHA-256, in hexadecimal
    created_at INTEGER NOT NULL,           -- Unix seconds
    bytes      BLOB                        -- NULL if they are in a bucket
);
