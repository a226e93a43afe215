-- A database as commit b763aa6 left it: its schema, without comments, and a little of everything in it. The documents were
-- written by Loro 1.17.1. A test upgrades it: upgrade.rs beside this folder.

CREATE TABLE schema_migrations (
    version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL);

-- 0001_create_loro_snapshots
CREATE TABLE IF NOT EXISTS loro_snapshots (
    project_id TEXT    NOT NULL PRIMARY KEY,
    snapshot   BLOB    NOT NULL,
    version    BLOB    NOT NULL,
    updated_at INTEGER NOT NULL,
    rev        INTEGER NOT NULL DEFAULT 0
);
INSERT INTO schema_migrations VALUES (1, '0001_create_loro_snapshots', 1763990000);

-- 0002_create_aigc_tasks
CREATE TABLE IF NOT EXISTS aigc_tasks (
    task_id          TEXT    NOT NULL PRIMARY KEY,
    project_id       TEXT    NOT NULL,
    task_type        TEXT    NOT NULL,
    status           TEXT    NOT NULL,
    external_task_id TEXT,
    external_service TEXT,
    params           TEXT    NOT NULL,
    result_url       TEXT,
    result_data      TEXT,
    error_message    TEXT,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    completed_at     INTEGER,
    retry_count      INTEGER NOT NULL DEFAULT 0,
    max_retries      INTEGER NOT NULL DEFAULT 3,
    lease_until      INTEGER,
    next_attempt_at  INTEGER,
    projected_status TEXT,
    version          INTEGER NOT NULL DEFAULT 0,
    projected_rev    INTEGER NOT NULL DEFAULT 0,
    node_id          TEXT,
    run              INTEGER NOT NULL DEFAULT 0,
    attempts         INTEGER NOT NULL DEFAULT 0,
    idempotency_key  TEXT,
    request_digest   TEXT,
    callback_url     TEXT,
    notify_at        INTEGER,
    notify_attempts  INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS aigc_tasks_by_project ON aigc_tasks (project_id, created_at);
CREATE INDEX IF NOT EXISTS aigc_tasks_by_external_id ON aigc_tasks (external_service, external_task_id);
INSERT INTO schema_migrations VALUES (2, '0002_create_aigc_tasks', 1763990000);

-- 0003_create_loro_updates
CREATE TABLE IF NOT EXISTS loro_updates (
    project_id TEXT    NOT NULL,
    rev        INTEGER NOT NULL,
    payload    BLOB    NOT NULL,
    origin     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project_id, rev)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS loro_snapshots_by_rev ON loro_snapshots (project_id, rev);
INSERT INTO schema_migrations VALUES (3, '0003_create_loro_updates', 1763990000);

-- 0004_create_loro_quarantine
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
INSERT INTO schema_migrations VALUES (4, '0004_create_loro_quarantine', 1763990000);

-- 0005_extend_aigc_tasks
CREATE UNIQUE INDEX IF NOT EXISTS aigc_tasks_by_idempotency_key ON aigc_tasks (idempotency_key);
CREATE INDEX IF NOT EXISTS aigc_tasks_due ON aigc_tasks (external_service, next_attempt_at)
    WHERE status IN ('pending', 'processing');
CREATE INDEX IF NOT EXISTS aigc_tasks_unprojected ON aigc_tasks (project_id) WHERE projected_status IS NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_end ON aigc_tasks (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_to_notify ON aigc_tasks (notify_at) WHERE notify_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_time ON aigc_tasks (created_at, task_id);
INSERT INTO schema_migrations VALUES (5, '0005_extend_aigc_tasks', 1763990000);

-- 0006_create_assets
CREATE TABLE IF NOT EXISTS assets (
    asset_id   TEXT    NOT NULL PRIMARY KEY,
    project_id TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    length     INTEGER NOT NULL,
    digest     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    bytes      BLOB
);
INSERT INTO schema_migrations VALUES (6, '0006_create_assets', 1763990000);

-- 0007_create_projects
CREATE TABLE IF NOT EXISTS projects (
    project_id TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    owner_id   TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    access_rev INTEGER NOT NULL DEFAULT 1,
    deleted_at INTEGER,
    purged_at  INTEGER
);
CREATE INDEX IF NOT EXISTS projects_by_owner ON projects (owner_id, project_id);
CREATE INDEX IF NOT EXISTS projects_to_purge ON projects (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE TABLE IF NOT EXISTS project_members (
    project_id TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project_id, user_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS project_members_by_user ON project_members (user_id, project_id);
CREATE TABLE IF NOT EXISTS project_tokens (
    token_id     TEXT    NOT NULL PRIMARY KEY,
    project_id   TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    digest       TEXT    NOT NULL,
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
);
CREATE INDEX IF NOT EXISTS project_tokens_by_project ON project_tokens (project_id, created_at);
CREATE INDEX IF NOT EXISTS assets_by_project ON assets (project_id);
INSERT OR IGNORE INTO projects (project_id, name, owner_id, created_at, updated_at)
SELECT project_id, project_id, 'dev', 0, 0 FROM loro_snapshots
 UNION SELECT DISTINCT project_id, project_id, 'dev', 0, 0 FROM loro_updates
 UNION SELECT DISTINCT project_id, project_id, 'dev', 0, 0 FROM aigc_tasks;
INSERT INTO schema_migrations VALUES (7, '0007_create_projects', 1763990000);

-- "canvas" has a snapshot and a log, "log" has no snapshot, "compacted" has no log; "gone" was deleted and purged.
INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev) VALUES
    ('canvas', x'6c6f726f0000000000000000000000001f8e950c0003260100004c4f524f0004224d18604082eb00000092000f000f0110010b0001002101010800f0080501000001001f0604010200120401000014040000000a0500100c0f0010160a00f0311843026e310464617461067461736b4964067374617475730373726301780179097461736b2d646f6e6509726573756c7455726c0474657874056e6f646573053500f01073002101040c0100060204000901000402000704000e0203070a040105140b0500e60100530568656c6c6f09000900055500f2050509636f6d706c65746564050f2f6173736574730700602d31030a03142d000f220007f0090002006672010b1c0002007676010b1e0000f8000001030000000000f96e570601000000050000000c00000000000000000b00000000010200767610b9600903010000380100004c4f524f0004224d18604082f8000000f21400020100056e6f6465730103046461746107010b0c01017903280178031400010b000002009006000a000b090400060f00f2050301010b0a010303737263040f2f6173736574730700f00e2d31067374617475730409636f6d706c65746564067461736b496404090800572d646f6e6558009009000800070904000c5800008d000025003e7301024700ad09726573756c7455726c7400075000720e000d00070080d4008000010001026e3107ae00072400110522000169000022000698004807010b182900a00c0006008204746578749a005568656c6c6f120140030402013e01010600100abe00c02e008600d400f6001f010600000000005fcff4e601000000050000000d00000b000000000000000500000001060082047465787435e8c0dc1001000000000000',
     x'010b1e', 1764000000, 2);
INSERT INTO loro_updates (project_id, rev, payload, origin, created_at) VALUES
    ('canvas', 3, x'6c6f726f0000000000000000000000004eaae52000044f00070f07011b020c000000000000000b000000000000000101010101011c00000005010000010006010401020000050474657874000e010402010002010a0201050201070009082c2077c3b6726c64', 'relay-1', 1764000010),
    ('canvas', 4, x'6c6f726f00000000000000000000000043e8691d000446070216020111010c00000000000000000101000000000005010000010006010401010002070161046c697374000e010402010002010002010b02010200080702030108010000', 'relay-1', 1764000011);
INSERT INTO loro_updates (project_id, rev, payload, origin, created_at) VALUES
    ('log', 1, x'6c6f726f00000000000000000000000039f0bb96000446000a000a01100115000000000000000101000000000005010000010006010401020000050474657874000e010402010002010002010502010a000b0a6f6e6c792061206c6f67', 'http', 1764000020),
    ('log', 2, x'6c6f726f000000000000000000000000217d949c0004460a010a01011101150000000000000000010100000000000501000001000601040100000206016e036d6170000e010402010002010002010b0201010009044012000000000000', 'http', 1764000021);
INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev) VALUES
    ('compacted', x'6c6f726f000000000000000000000000844a4fd400038f0000004c4f524f00000f000f0110011f000000000000000101000000000005010000010006010401020000050474657874000e010402010002010002010502010f00100f6f6e6c79206120736e617073686f740002006672011f1c0002007676011f1e00004b005300030014af599701000000050000000c00000000000000001f0000000000020076765021d67c6c0000005a0000004c4f524f000201000f6f6e6c79206120736e617073686f74011f00000000000000030402010002010002010002011e000000000100e00091720100000005000000060082047465787400060082047465787465343e6f3900000000000000',
     x'011f1e', 1764000030, 9);


INSERT INTO loro_quarantine VALUES ('log', 3, x'6c6f726f', 'relay-1', 1764000022, 1764000023, 'the update cannot be applied');
INSERT INTO loro_updates (project_id, rev, payload, origin, created_at) VALUES ('log', 3, x'', 'relay-1', 1764000022);

INSERT INTO projects (project_id, name, owner_id, created_at, updated_at, access_rev, deleted_at, purged_at) VALUES
    ('canvas', 'The canvas', 'dev', 1764000000, 1764000001, 3, NULL, NULL),
    ('log', 'log', 'dev', 1764000000, 1764000000, 1, NULL, NULL),
    ('compacted', 'compacted', 'dev', 1764000000, 1764000000, 1, NULL, NULL),
    ('gone', 'gone', 'dev', 1764000000, 1764000002, 2, 1764000002, 1764000003);
INSERT INTO project_members VALUES
    ('canvas', 'ana', 'write', 1764000040), ('canvas', 'ben', 'read', 1764000041);
INSERT INTO project_tokens VALUES
    ('tok-1', 'canvas', 'an agent', 'write', '0000000000000000000000000000000000000000000000000000000000000000',
     'dev', 1764000050, NULL, 1764000051);

INSERT INTO assets VALUES
    ('asset-1', 'canvas', 'image/png', 8, '4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6', 1764000060,
     x'89504e470d0a1a0a');
-- The tasks are as they were when nothing was under way: no service is called when they are upgraded.
INSERT INTO aigc_tasks (task_id, project_id, task_type, status, external_task_id, external_service, params, result_url,
                        result_data, error_message, created_at, updated_at, completed_at, retry_count, projected_status,
                        version, projected_rev, node_id, run, attempts, idempotency_key) VALUES
    ('task-done', 'canvas', 'demo', 'completed', 'job-1', 'demo', '{"prompt":"a hill"}', '/assets/asset-1',
     '{"width":1}', NULL, 1764000060, 1764000062, 1764000062, 0, 'completed', 2, 2, 'n1', 0, 1, 'key-1'),
    ('task-failed', 'canvas', 'demo', 'failed', NULL, 'demo', '{"prompt":"no hill"}', NULL,
     NULL, 'it was refused', 1764000070, 1764000071, 1764000071, 3, 'failed', 2, 2, NULL, 0, 4, NULL),
    ('task-cancelled', 'log', 'demo', 'cancelled', NULL, 'demo', '{"prompt":"never"}', NULL,
     NULL, NULL, 1764000080, 1764000081, 1764000081, 0, 'cancelled', 1, 2, NULL, 0, 0, NULL),
    ('task-pending', 'log', 'demo', 'pending', NULL, 'demo', '{"prompt":"goes on"}', NULL,
     NULL, NULL, 1764000090, 1764000090, NULL, 0, NULL, 0, 0, NULL, 0, 0, NULL);
