-- An index that finds the tasks whose results are being copied, and triggers that delete the services' answers when the
-- tasks end. The column `has_product` is declared in 0002.
CREATE INDEX IF NOT EXISTS aigc_tasks_to_keep ON aigc_tasks (next_attempt_at)
    WHERE has_product = 1 AND status IN ('pending', 'processing');
CREATE TRIGGER IF NOT EXISTS aigc_task_kept AFTER UPDATE OF status ON aigc_tasks
    WHEN NEW.has_product = 1 AND NEW.status NOT IN ('pending', 'processing')
BEGIN
    DELETE FROM aigc_products WHERE task_id = NEW.task_id;
END;
CREATE TRIGGER IF NOT EXISTS aigc_task_and_product_deleted AFTER DELETE ON aigc_tasks WHEN OLD.has_product = 1
BEGIN
    DELETE FROM aigc_products WHERE task_id = OLD.task_id;
END;
