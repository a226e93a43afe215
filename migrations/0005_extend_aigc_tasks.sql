-- What posting, projecting and telling of tasks needs besides. The columns are added by the app, for SQLite
-- cannot say "add where it is missing"; on a database that `spin up --sqlite` makes they are in 0002.
CREATE UNIQUE INDEX IF NOT EXISTS aigc_tasks_by_idempotency_key ON aigc_tasks (idempotency_key);
CREATE INDEX IF NOT EXISTS aigc_tasks_due ON aigc_tasks (external_service, next_attempt_at)
    WHERE status IN ('pending', 'processing');
CREATE INDEX IF NOT EXISTS aigc_tasks_unprojected ON aigc_tasks (project_id) WHERE projected_status IS NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_end ON aigc_tasks (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_to_notify ON aigc_tasks (notify_at) WHERE notify_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_time ON aigc_tasks (created_at, task_id);
