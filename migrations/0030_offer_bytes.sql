-- The bytes that each project keeps, for quotas. The length of a blob, and that of a text in bytes, is read without its
-- content. A rev is read from an index, because in its row it comes after the content.
CREATE VIEW IF NOT EXISTS document_bytes (project_id, kept, state, newer, operations) AS
SELECT project_id, length(snapshot), length(snapshot), 0, 0 FROM loro_snapshots
 UNION ALL
SELECT project_id, length(payload), length(payload), 0, 0 FROM loro_quarantine
 UNION ALL
SELECT project_id, 0, 0, length(blob), 0 FROM loro_blobs
 WHERE rev > ifnull((SELECT s.rev FROM loro_snapshots s INDEXED BY loro_snapshots_by_rev
                      WHERE s.project_id = loro_blobs.project_id), 0)
 UNION ALL
SELECT project_id, length(payload), 0, length(payload) * (
           rev > ifnull((SELECT b.rev FROM loro_blobs b INDEXED BY loro_blobs_by_rev
                          WHERE b.project_id = loro_updates.project_id), 0)
       AND rev > ifnull((SELECT s.rev FROM loro_snapshots s INDEXED BY loro_snapshots_by_rev
                          WHERE s.project_id = loro_updates.project_id), 0)), 0
  FROM loro_updates
 UNION ALL
SELECT project_id, 0, 0, 0, operations FROM loro_operations;
-- The bytes of assets, of uploads under way, and of tasks.
CREATE VIEW IF NOT EXISTS task_bytes (project_id, kept) AS
SELECT project_id, length FROM assets
 UNION ALL
SELECT project_id, length FROM asset_uploads
 UNION ALL
SELECT project_id, length(CAST(params AS BLOB)) + ifnull(length(CAST(result_data AS BLOB)), 0)
                 + ifnull(length(signature), 0)
  FROM aigc_tasks;
