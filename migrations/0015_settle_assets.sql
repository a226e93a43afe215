-- The index of the assets for which the app must still find out whether the rows of their tasks refer to them. The
-- columns are declared in 0006. Older assets are kept.
CREATE INDEX IF NOT EXISTS assets_to_settle ON assets (settle_at) WHERE settle_at IS NOT NULL;
