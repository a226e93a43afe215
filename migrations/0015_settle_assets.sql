-- The assets of which it is still to be found out whether the rows of their tasks refer to them. The columns are declared
-- in 0006. Those from before are kept.
CREATE INDEX IF NOT EXISTS assets_to_settle ON assets (settle_at) WHERE settle_at IS NOT NULL;
