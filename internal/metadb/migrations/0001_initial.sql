-- +goose Up

-- Times are milliseconds since 1970 in UTC, except those that an age is counted
-- from (stored_at, linked_at, expires_at, since, changed_at of feed, removed_at, and
-- updated_at of uploads and transfers): for how many milliseconds the instance had
-- run by then, which no step of the clock moves. Flags are 0 or 1. Text sorts by
-- its bytes: SQLite does so by itself, and the words COLLATE "C", which
-- PostgreSQL needs for it, are taken out before SQLite reads this file.

-- Content ---------------------------------------------------------------

CREATE TABLE repositories (
  name       TEXT COLLATE "C" PRIMARY KEY,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  locks      INTEGER NOT NULL DEFAULT 0
);

-- A row exists for every blob that is verified, fsynced and in its place, unless
-- damage was found since: then the blob has a row in damaged instead.
CREATE TABLE blobs (
  digest     TEXT COLLATE "C" PRIMARY KEY,
  size       BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  stored_at  BIGINT NOT NULL
);

-- Which repository may serve which blob.
CREATE TABLE repository_blobs (
  repository TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  linked_at  BIGINT NOT NULL,
  PRIMARY KEY (repository, digest)
);
CREATE INDEX repository_blobs_digest ON repository_blobs (digest);

CREATE TABLE manifests (
  repository    TEXT COLLATE "C" NOT NULL,
  digest        TEXT COLLATE "C" NOT NULL,
  media_type    TEXT NOT NULL,
  artifact_type TEXT NOT NULL,
  subject       TEXT COLLATE "C" NOT NULL, -- '' where there is none
  annotations   TEXT NOT NULL,             -- a JSON object; what of them is listed with referrers
  payload       BYTEA,                     -- NULL where it is in manifest_chunks
  size          BIGINT NOT NULL,           -- of the payload, in bytes
  pushed_at     BIGINT NOT NULL,
  locks         INTEGER NOT NULL DEFAULT 0,
  was_referenced INTEGER NOT NULL DEFAULT 0, -- 1 once a tag, an index or a subject referenced it
  seq           BIGINT NOT NULL DEFAULT 0,  -- the sequence number of the change that added it
  damaged       INTEGER NOT NULL DEFAULT 0, -- 1 where the payload is not what the digest says
  PRIMARY KEY (repository, digest)
);
CREATE INDEX manifests_subject ON manifests (repository, subject, pushed_at, digest);

-- The payload of a manifest of more than 128 KiB, in chunks of 32 KiB: a row is held
-- several times in memory while it is read or written.
CREATE TABLE manifest_chunks (
  repository TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  n          INTEGER NOT NULL, -- 0 is the first
  content    BYTEA NOT NULL,
  PRIMARY KEY (repository, digest, n),
  FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
);

-- What a manifest refers to: its config and layers (manifest = 0), or an
-- index's manifests: those that it holds here (manifest = 1), and those that it
-- was stored without (manifest = 2).
CREATE TABLE manifest_children (
  repository TEXT COLLATE "C" NOT NULL,
  parent     TEXT COLLATE "C" NOT NULL,
  child      TEXT COLLATE "C" NOT NULL,
  manifest   INTEGER NOT NULL,
  PRIMARY KEY (repository, parent, child)
);
CREATE INDEX manifest_children_child ON manifest_children (child, repository);

CREATE TABLE tags (
  repository TEXT COLLATE "C" NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  locks      INTEGER NOT NULL DEFAULT 0,
  seq        BIGINT NOT NULL, -- the sequence number of the change that set it
  PRIMARY KEY (repository, name)
);
CREATE INDEX tags_digest ON tags (repository, digest);

-- A client's upload on its way in. hash_state is the sha256 state of the
-- first hashed bytes, so that a restart does not read them again.
CREATE TABLE uploads (
  id         TEXT COLLATE "C" PRIMARY KEY,
  repository TEXT COLLATE "C" NOT NULL,
  hashed     BIGINT NOT NULL,
  hash_state BYTEA NOT NULL,
  updated_at BIGINT NOT NULL
);

-- A mark that keeps a blob from garbage collection while something is
-- assembled around it. The holder is an upload, a sync or a delta.
CREATE TABLE leases (
  holder     TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (holder, digest)
);
CREATE INDEX leases_digest ON leases (digest);

-- Files in the data directory that no row of blobs, damaged, uploads or transfers knows, and
-- since when. They are kept for a while: the database may be the wrong one.
CREATE TABLE orphans (
  name  TEXT COLLATE "C" PRIMARY KEY, -- a blob's digest, or what a partial is called
  since BIGINT NOT NULL
);

-- Content that is not what its digest says any more, or that is lost. It is not
-- served until it was pushed or fetched again.
CREATE TABLE damaged (
  repository TEXT COLLATE "C" NOT NULL, -- of a manifest; '' of a blob, which all repositories share
  digest     TEXT COLLATE "C" NOT NULL,
  size       BIGINT NOT NULL,
  reason     TEXT NOT NULL,             -- what is wrong with it
  found_at   BIGINT NOT NULL,
  PRIMARY KEY (repository, digest)
);

-- The feed: the sequence number of each repository's last change. Numbers come
-- from the counter 'feed', in the transaction of the change, so that a reader
-- never sees n + 1 before n. A deleted repository keeps its row until the
-- longest message TTL has passed.
CREATE TABLE feed (
  repository TEXT COLLATE "C" PRIMARY KEY,
  seq        BIGINT NOT NULL,
  relist_seq BIGINT NOT NULL, -- of its last change that only a complete listing can tell
  prev_seq   BIGINT NOT NULL, -- of the change before the last
  changed_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX feed_seq ON feed (seq);

-- Items of a repository that were removed: tags, and manifests without a tag.
CREATE TABLE tombstones (
  repository TEXT COLLATE "C" NOT NULL,
  item       TEXT COLLATE "C" NOT NULL, -- the tag, or the digest of a manifest without a tag
  seq        BIGINT NOT NULL,           -- of the removal
  removed_at BIGINT NOT NULL,
  PRIMARY KEY (repository, item)
);
CREATE INDEX tombstones_removed_at ON tombstones (removed_at);

CREATE TABLE counters (
  name  TEXT COLLATE "C" PRIMARY KEY,
  value BIGINT NOT NULL
);

-- Control ---------------------------------------------------------------

CREATE TABLE scope_maps (
  name        TEXT COLLATE "C" PRIMARY KEY,
  description TEXT NOT NULL,
  type        TEXT NOT NULL,  -- UserDefined or SystemDefined
  actions     TEXT NOT NULL,  -- a JSON array of action strings
  created_at  BIGINT NOT NULL,
  version     BIGINT NOT NULL, -- counts edits; the resource's ETag
  seq         BIGINT NOT NULL  -- in the feed, of the last change of actions
);

CREATE TABLE tokens (
  name       TEXT COLLATE "C" PRIMARY KEY,
  scope_map  TEXT COLLATE "C" NOT NULL, -- '' where it has none
  status     TEXT NOT NULL,             -- enabled or disabled
  passwords  TEXT NOT NULL,             -- a JSON array: name, hash, creation, expiry
  created_at BIGINT NOT NULL,
  version    BIGINT NOT NULL,
  seq        BIGINT NOT NULL            -- in the feed, of the last change of scope_map
);
CREATE INDEX tokens_scope_map ON tokens (scope_map);

-- A connected registry: spec is what the root decided, status what the
-- running instance reported. Both are JSON.
CREATE TABLE connected_registries (
  name        TEXT COLLATE "C" PRIMARY KEY,
  parent      TEXT COLLATE "C" NOT NULL, -- '' where it is the instance at the top
  sync_token  TEXT COLLATE "C" NOT NULL,
  spec        TEXT NOT NULL,
  status      TEXT NOT NULL,
  instance_id TEXT NOT NULL,             -- '' while it is not activated
  created_at  BIGINT NOT NULL,
  version     BIGINT NOT NULL
);
-- A name is found, and is unique, whatever its case.
CREATE UNIQUE INDEX connected_registries_name ON connected_registries (LOWER(name));

CREATE TABLE operators (
  name          TEXT COLLATE "C" PRIMARY KEY,
  role          TEXT NOT NULL, -- admin or reader
  password_hash TEXT NOT NULL, -- argon2id, in the PHC string format
  created_at    BIGINT NOT NULL
);

CREATE TABLE audit (
  id     BIGINT PRIMARY KEY,
  at     BIGINT NOT NULL,
  actor  TEXT NOT NULL,
  source TEXT NOT NULL, -- the caller's address
  action TEXT NOT NULL,
  object TEXT NOT NULL,
  detail TEXT NOT NULL
);

-- What an instance must remember of itself: its id, its role, its
-- place in the parent's feed.
CREATE TABLE settings (
  name  TEXT COLLATE "C" PRIMARY KEY,
  value TEXT NOT NULL
);

-- Sync ------------------------------------------------------------------

-- A blob on its way in from a parent: which ranges are on disk, and the
-- digest state of the contiguous prefix.
CREATE TABLE transfers (
  digest     TEXT COLLATE "C" PRIMARY KEY,
  size       BIGINT NOT NULL,
  ranges     TEXT NOT NULL,   -- a JSON array of [start, end) pairs
  hashed     BIGINT NOT NULL,
  hash_state BYTEA NOT NULL,
  updated_at BIGINT NOT NULL
);

-- What a source has in a repository that this instance keeps in step with it:
-- one row for each tag, and for each manifest that is wanted by its digest alone.
CREATE TABLE sync_items (
  source     TEXT COLLATE "C" NOT NULL, -- '' is the parent; else a mirror rule or an import
  repository TEXT COLLATE "C" NOT NULL,
  item       TEXT COLLATE "C" NOT NULL, -- the tag, or the digest where there is no tag
  tag        TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL, -- the source's digest; '' when the item must be removed
  part       TEXT COLLATE "C" NOT NULL, -- which part of an index the source has; '' is the whole
  state      TEXT NOT NULL,             -- pending, synced or failed
  error      TEXT NOT NULL,
  permanent  INTEGER NOT NULL,          -- 1 where it failed, and fails again until the source changes
  changed_at BIGINT NOT NULL,           -- when the source's side last moved
  synced_at  BIGINT NOT NULL,           -- when the two sides last matched; 0 is never
  PRIMARY KEY (source, repository, item)
);
CREATE INDEX sync_items_state ON sync_items (source, state);
-- A sweep asks of every untagged manifest whether an item needs it.
CREATE INDEX sync_items_digest ON sync_items (repository, digest);

-- The repositories that the running pass over all of a source's repositories
-- has listed. What it did not list is removed at its end.
CREATE TABLE sync_pass (
  source     TEXT COLLATE "C" NOT NULL,
  repository TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (source, repository)
);

-- Standing orders to keep a repository in step with one of another registry.
CREATE TABLE mirror_rules (
  name        TEXT COLLATE "C" PRIMARY KEY,
  spec        TEXT NOT NULL,                    -- what an operator decided; JSON
  secret      TEXT NOT NULL,                    -- the source's password, sealed; '' is none
  repository  TEXT COLLATE "C" NOT NULL UNIQUE, -- that it keeps
  created_at  BIGINT NOT NULL,
  version     BIGINT NOT NULL,                  -- counts edits; the resource's ETag
  -- Its last run. Times are 0 for never.
  requested_at BIGINT NOT NULL,           -- when an operator last requested a run
  retry_since  BIGINT NOT NULL DEFAULT 0, -- when the run was due that has to be retried; 0 is none
  started_at   BIGINT NOT NULL,
  ended_at     BIGINT NOT NULL,
  succeeded_at BIGINT NOT NULL, -- when the two sides last matched
  error        TEXT NOT NULL,   -- why the last run did not end in step
  warnings     TEXT NOT NULL    -- what was odd in it, and did not stop it; JSON
);
