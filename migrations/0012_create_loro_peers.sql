-- The counters up to which each peer has written into each room. Peer ids are unsigned; here they are stored as signed
-- numbers of the same bits. A room from before this table, or one of whose updates was quarantined, has no rows: its
-- counters are unknown, and the next updates and questions of its clients bring rows back. The columns spans, digest
-- and waits are declared in 0003.
CREATE TABLE IF NOT EXISTS loro_peers (
    project_id TEXT    NOT NULL,
    peer       INTEGER NOT NULL,
    counter    INTEGER NOT NULL,           -- its operations below this are in the document, and perhaps more
    written    INTEGER NOT NULL,           -- the counter after its last operation that was stored, waiting or not
    start      INTEGER NOT NULL,           -- the first counter of the update with that operation
    digest     INTEGER NOT NULL,           -- the digest of that update
    PRIMARY KEY (project_id, peer)
) WITHOUT ROWID;
-- The trigger is a part of the statement that appends an update, so that log and peers never differ.
CREATE TRIGGER IF NOT EXISTS loro_updates_by_peers AFTER INSERT ON loro_updates WHEN NEW.spans IS NOT NULL
BEGIN
    INSERT INTO loro_peers (project_id, peer, counter, written, start, digest)
    SELECT NEW.project_id, json_extract(s.value, '$[0]'),
           CASE NEW.waits WHEN 0 THEN json_extract(s.value, '$[2]') ELSE 0 END,
           json_extract(s.value, '$[2]'), json_extract(s.value, '$[1]'), NEW.digest
      FROM json_each(NEW.spans) s WHERE true
    ON CONFLICT (project_id, peer) DO UPDATE SET
        counter = max(loro_peers.counter, excluded.counter),
        written = max(loro_peers.written, excluded.written),
        start = CASE WHEN excluded.written > loro_peers.written THEN excluded.start ELSE loro_peers.start END,
        digest = CASE WHEN excluded.written > loro_peers.written THEN excluded.digest ELSE loro_peers.digest END;
END;
-- A quarantined update frees its operations' ids, and what depends on them waits again.
CREATE TRIGGER IF NOT EXISTS loro_updates_quarantined AFTER UPDATE OF payload ON loro_updates
    WHEN length(NEW.payload) = 0
BEGIN
    DELETE FROM loro_peers WHERE project_id = NEW.project_id;
END;
