-- The indexes for claims by turns and for the order of posting. The columns are declared in 0002. Older rows get the
-- order in which they were inserted.
UPDATE aigc_tasks SET seq = rowid WHERE seq = 0;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_seq ON aigc_tasks (project_id, seq);
CREATE INDEX IF NOT EXISTS aigc_tasks_by_node ON aigc_tasks (project_id, node_id, seq) WHERE node_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_waiting ON aigc_tasks (external_service, project_id, seq)
    WHERE status IN ('pending', 'processing') AND external_task_id IS NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_accepted ON aigc_tasks (external_service, project_id)
    WHERE status IN ('pending', 'processing') AND external_task_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS aigc_tasks_by_turn ON aigc_tasks (external_service, project_id, turn);
CREATE INDEX IF NOT EXISTS aigc_tasks_last_turn ON aigc_tasks (turn);
