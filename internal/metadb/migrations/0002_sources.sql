-- +goose Up

-- Items of other sources than the parent: of mirror rules, and of imports.
CREATE TABLE sync_items_by_source (
  source     TEXT COLLATE "C" NOT NULL, -- '' is the parent
  repository TEXT COLLATE "C" NOT NULL,
  tag        TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL, -- the source's digest; '' when it is to go
  state      TEXT NOT NULL,             -- pending, synced or failed
  error      TEXT NOT NULL,
  changed_at BIGINT NOT NULL,           -- when the source's side last moved
  synced_at  BIGINT NOT NULL,           -- when the two sides last matched; 0 is never
  seen       BIGINT NOT NULL,           -- the last snapshot that had it
  -- A tag has one row. A manifest without a tag is its own row.
  item       TEXT COLLATE "C" NOT NULL, -- the tag, or the digest where there is no tag
  PRIMARY KEY (source, repository, item)
);
INSERT INTO sync_items_by_source (source, repository, tag, digest, state, error, changed_at, synced_at, seen, item)
  SELECT '', repository, tag, digest, state, error, changed_at, synced_at, seen, item FROM sync_items;
DROP TABLE sync_items;
ALTER TABLE sync_items_by_source RENAME TO sync_items;
CREATE INDEX sync_items_state ON sync_items (source, state);

-- Standing orders to keep a repository in step with one of another registry.
CREATE TABLE mirror_rules (
  name        TEXT COLLATE "C" PRIMARY KEY,
  spec        TEXT NOT NULL,                    -- what an operator decided; JSON
  secret      TEXT NOT NULL,                    -- the source's password, sealed; '' is none
  repository  TEXT COLLATE "C" NOT NULL UNIQUE, -- that it keeps
  created_at  BIGINT NOT NULL,
  version     BIGINT NOT NULL,                  -- counts edits; the resource's ETag
  -- Its last run. Times are 0 for never.
  asked_at     BIGINT NOT NULL, -- when somebody asked for a run
  started_at   BIGINT NOT NULL,
  ended_at     BIGINT NOT NULL,
  succeeded_at BIGINT NOT NULL, -- when the two sides last matched
  error        TEXT NOT NULL    -- why the last run did not end in step
);
