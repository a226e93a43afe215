-- The questions to Better Auth that are under way, at most one for each place of the cache of sessions. Times are Unix
-- seconds.
CREATE TABLE IF NOT EXISTS auth_questions (
    place    TEXT    NOT NULL PRIMARY KEY,
    cookies  TEXT    NOT NULL,             -- the digest of the cookies that are asked about
    asked_at INTEGER NOT NULL
) WITHOUT ROWID;
