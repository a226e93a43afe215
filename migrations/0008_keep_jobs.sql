-- What keeps a job that its service has accepted, and that was paid for. The columns are added by the app, as in
-- 0005. With this index the poller finds what it is to submit without walking over the jobs under way.
CREATE INDEX IF NOT EXISTS aigc_tasks_to_submit ON aigc_tasks (external_service, next_attempt_at)
    WHERE status IN ('pending', 'processing') AND external_task_id IS NULL;
