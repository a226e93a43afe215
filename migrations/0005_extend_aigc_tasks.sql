-- The indexes for posting, projecting and notifying. The columns are declared in 0002; the app adds those that an
-- older table lacks, because SQLite has no "add if missing".
CREATE UNIQUE INDEX IF NOT EXISTS aigc_tasks_by_idempotency_key ON aigc_tasks (idempotency_key);
CREATE INDEX IF NOT EXISTS aigc_tasks_due ON aigc_tasks (external_service, next_attempt_at)
    WHERE status IN ('pending', 'processing');
CREATE INDEX IF NOT EXISTS aigc_tasks_unprojected ON aigc_tasks (project_id) WHERE projected_status IS NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_end ON aigc_tasks (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_to_notify ON aigc_tasks (notify_at) WHERE notify_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_time ON aigc_tasks (created_at, task_id);
