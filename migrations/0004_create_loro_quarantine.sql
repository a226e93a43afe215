-- Updates that decode but cannot be applied, moved aside so that they do not block their room.
CREATE TABLE IF NOT EXISTS loro_quarantine (
    project_id     TEXT    NOT NULL,
    rev            INTEGER NOT NULL,
    payload        BLOB    NOT NULL,
    origin         TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    quarantined_at INTEGER NOT NULL,
    reason         TEXT    NOT NULL,
    PRIMARY KEY (project_id, rev)
);
