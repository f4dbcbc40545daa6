-- Scope maps may allow pulls without credentials.

ALTER TABLE scope_maps ADD COLUMN anonymous_networks TEXT NOT NULL DEFAULT '[]'; -- a JSON array of networks
