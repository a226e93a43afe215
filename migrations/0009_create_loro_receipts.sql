-- With this index the app finds an update that a relay appends again, by its serial number. The column `serial` is
-- declared in 0003.
CREATE UNIQUE INDEX IF NOT EXISTS loro_updates_by_serial ON loro_updates (origin, serial) WHERE serial IS NOT NULL;
-- The rev of each recent update that has left the log, for as long as its relay may append it again.
CREATE TABLE IF NOT EXISTS loro_receipts (
    origin     TEXT    NOT NULL,
    serial     INTEGER NOT NULL,
    rev        INTEGER NOT NULL,
    created_at INTEGER NOT NULL,           -- when the update was stored, in Unix seconds
    PRIMARY KEY (origin, serial)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS loro_receipts_by_time ON loro_receipts (created_at);
