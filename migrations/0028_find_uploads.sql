-- The bytes of uploads in parts count for the quota of their project before they are complete.
CREATE INDEX IF NOT EXISTS asset_uploads_by_project ON asset_uploads (project_id);
