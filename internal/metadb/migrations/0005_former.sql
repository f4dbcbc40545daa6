-- +goose Up

-- What a tag named, or an index held, until a change: digests, with spaces
-- between. Readers with a part of the tags need it, to tell what goes.
ALTER TABLE changes ADD COLUMN former TEXT COLLATE "C" NOT NULL DEFAULT '';
