-- +goose Up

-- From when a mirror rule owes a run that did not come to its end: the tick,
-- or the wish, that it began with; 0 is that it owes none.
ALTER TABLE mirror_rules ADD COLUMN owed_at BIGINT NOT NULL DEFAULT 0;
