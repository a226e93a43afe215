-- With this index the poller finds the tasks to submit without reading the jobs under way. The columns
-- `accepted_at` and `earlier_jobs` of this step are declared in 0002.
CREATE INDEX IF NOT EXISTS aigc_tasks_to_submit ON aigc_tasks (external_service, next_attempt_at)
    WHERE status IN ('pending', 'processing') AND external_task_id IS NULL;
