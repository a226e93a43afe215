-- The order of the changes of tasks, for streams of events: each task has the number of its last change. Numbers grow over
-- all projects and are never used again. Columns of `aigc_tasks` are declared in 0002.
CREATE TABLE IF NOT EXISTS aigc_changes (
    change     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    task_id    TEXT    NOT NULL UNIQUE,
    project_id TEXT    NOT NULL
);
CREATE INDEX IF NOT EXISTS aigc_changes_by_project ON aigc_changes (project_id, change);
-- The last tries of each task to be submitted, or to get its result.
CREATE TABLE IF NOT EXISTS aigc_tries (
    try     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    task_id TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    tried   TEXT    NOT NULL,              -- submission or result
    error   TEXT                           -- in words; NULL if the service has taken the task
);
CREATE INDEX IF NOT EXISTS aigc_tries_by_task ON aigc_tries (task_id, try);
CREATE INDEX IF NOT EXISTS aigc_tasks_to_cancel ON aigc_tasks (cancel_at)
    WHERE cancel_at IS NOT NULL AND status IN ('pending', 'processing');
CREATE TRIGGER IF NOT EXISTS aigc_task_posted AFTER INSERT ON aigc_tasks
BEGIN
    INSERT INTO aigc_changes (task_id, project_id) VALUES (NEW.task_id, NEW.project_id);
END;
-- What clients see of a task has changed.
CREATE TRIGGER IF NOT EXISTS aigc_task_changed AFTER UPDATE ON aigc_tasks
    WHEN NEW.version <> OLD.version OR NEW.updated_at <> OLD.updated_at OR NEW.retry_count <> OLD.retry_count
      OR NEW.external_task_id IS NOT OLD.external_task_id OR NEW.progress IS NOT OLD.progress
BEGIN
    DELETE FROM aigc_changes WHERE task_id = NEW.task_id;
    INSERT INTO aigc_changes (task_id, project_id) VALUES (NEW.task_id, NEW.project_id);
END;
-- A try has ended: the service has taken the task, there was an error, or there was no place.
CREATE TRIGGER IF NOT EXISTS aigc_task_tried AFTER UPDATE ON aigc_tasks
    WHEN (NEW.external_task_id IS NOT NULL AND OLD.external_task_id IS NULL)
      OR NEW.retry_count > OLD.retry_count OR NEW.waits > OLD.waits
      OR (NEW.status = 'failed' AND OLD.status <> 'failed')
BEGIN
    INSERT INTO aigc_tries (task_id, at, tried, error) VALUES (
        NEW.task_id, NEW.updated_at,
        CASE WHEN OLD.external_task_id IS NULL THEN 'submission' ELSE 'result' END,
        CASE WHEN NEW.waits > OLD.waits THEN NEW.message
             WHEN NEW.retry_count > OLD.retry_count OR NEW.status = 'failed' THEN NEW.error_message END);
    DELETE FROM aigc_tries WHERE task_id = NEW.task_id AND try <= (
        SELECT try FROM aigc_tries WHERE task_id = NEW.task_id ORDER BY try DESC LIMIT 1 OFFSET 20);
END;
CREATE TRIGGER IF NOT EXISTS aigc_task_deleted AFTER DELETE ON aigc_tasks
BEGIN
    DELETE FROM aigc_changes WHERE task_id = OLD.task_id;
    DELETE FROM aigc_tries WHERE task_id = OLD.task_id;
END;
INSERT OR IGNORE INTO aigc_changes (task_id, project_id) SELECT task_id, project_id FROM aigc_tasks ORDER BY updated_at;
