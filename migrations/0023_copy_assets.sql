-- A project that was imported beside the one that it was exported from: its document names assets by ids that are taken,
-- so its own copies have other ids. A member of the project who has no access to the first asset gets the copy.
CREATE TABLE IF NOT EXISTS asset_copies (
    asset_id   TEXT NOT NULL,              -- the id in the document
    project_id TEXT NOT NULL,              -- the imported project
    copy_id    TEXT NOT NULL,              -- the id of its own asset
    PRIMARY KEY (asset_id, project_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS asset_copies_by_project ON asset_copies (project_id);
