-- Times are milliseconds since 1970 in UTC. Some times have an age (stored_at,
-- linked_at, expires_at, since, changed_at of feed, removed_at, and updated_at of
-- uploads and transfers): they are the milliseconds that the instance had run by
-- then, which no step of the clock moves. Flags are 0 or 1. Text sorts by its bytes.
-- PostgreSQL needs the words COLLATE "C" for that; they are removed before SQLite
-- reads this file, because it sorts so by itself.

-- Content ---------------------------------------------------------------

CREATE TABLE repositories (
  name       TEXT COLLATE "C" PRIMARY KEY,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  locks      INTEGER NOT NULL DEFAULT 0
);

-- A row exists for every blob that is verified, fsynced and in its place. A blob that
-- was found damaged since has a row in damaged instead.
CREATE TABLE blobs (
  digest     TEXT COLLATE "C" PRIMARY KEY,
  size       BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  stored_at  BIGINT NOT NULL
);

-- Links: the blobs that each repository may serve.
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
  subject       TEXT COLLATE "C" NOT NULL, -- '' is none
  annotations   TEXT NOT NULL,             -- a JSON object; those that are listed with referrers
  payload       BYTEA NOT NULL,
  pushed_at     BIGINT NOT NULL,
  locks         INTEGER NOT NULL DEFAULT 0,
  was_referenced INTEGER NOT NULL DEFAULT 0, -- 1 once a tag, an index or a subject referenced it
  seq           BIGINT NOT NULL DEFAULT 0,  -- the sequence number of the change that added it
  damaged       INTEGER NOT NULL DEFAULT 0, -- 1 if the payload does not match the digest
  PRIMARY KEY (repository, digest)
);
CREATE INDEX manifests_subject ON manifests (repository, subject, pushed_at, digest);

-- The content that a manifest refers to.
CREATE TABLE manifest_children (
  repository TEXT COLLATE "C" NOT NULL,
  parent     TEXT COLLATE "C" NOT NULL,
  child      TEXT COLLATE "C" NOT NULL,
  manifest   INTEGER NOT NULL, -- 0: config, layer or other blob; 1: manifest that the index holds; 2: one it omits
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

-- Blobs that clients are pushing. hash_state is the sha256 state of the first hashed
-- bytes, so that a restart does not read them again.
CREATE TABLE uploads (
  id         TEXT COLLATE "C" PRIMARY KEY,
  repository TEXT COLLATE "C" NOT NULL,
  hashed     BIGINT NOT NULL,
  hash_state BYTEA NOT NULL,
  updated_at BIGINT NOT NULL
);

-- Leases keep blobs from garbage collection while an image is assembled. The holder is
-- an upload or a sync.
CREATE TABLE leases (
  holder     TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (holder, digest)
);
CREATE INDEX leases_digest ON leases (digest);

-- Files in the data directory that no row of blobs, damaged, uploads or transfers knows.
-- They are kept for a while, because the database may be the wrong one.
CREATE TABLE orphans (
  name  TEXT COLLATE "C" PRIMARY KEY, -- a blob's digest, or the name of a partial
  since BIGINT NOT NULL
);

-- Content that is lost, or does not match its digest any more. It is not served until it
-- is pushed or fetched again.
CREATE TABLE damaged (
  repository TEXT COLLATE "C" NOT NULL, -- of a manifest; '' for a blob, which all repositories share
  digest     TEXT COLLATE "C" NOT NULL,
  size       BIGINT NOT NULL,
  reason     TEXT NOT NULL,             -- for people
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
  relist_seq BIGINT NOT NULL, -- of its last change that needs a complete listing
  prev_seq   BIGINT NOT NULL, -- of the change before the last
  changed_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX feed_seq ON feed (seq);

-- Items of a repository that were removed: tags and untagged manifests.
CREATE TABLE tombstones (
  repository TEXT COLLATE "C" NOT NULL,
  item       TEXT COLLATE "C" NOT NULL, -- the tag, or the digest of an untagged manifest
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
  scope_map  TEXT COLLATE "C" NOT NULL, -- '' is none
  status     TEXT NOT NULL,             -- enabled or disabled
  passwords  TEXT NOT NULL,             -- a JSON array: name, hash, creation, expiry
  created_at BIGINT NOT NULL,
  version    BIGINT NOT NULL,
  seq        BIGINT NOT NULL            -- in the feed, of the last change of scope_map
);
CREATE INDEX tokens_scope_map ON tokens (scope_map);

-- Connected registries. spec has the settings that the root decided, status the last
-- report of the running instance. Both are JSON.
CREATE TABLE connected_registries (
  name        TEXT COLLATE "C" PRIMARY KEY,
  parent      TEXT COLLATE "C" NOT NULL, -- '' if it is the topmost instance
  sync_token  TEXT COLLATE "C" NOT NULL,
  spec        TEXT NOT NULL,
  status      TEXT NOT NULL,
  instance_id TEXT NOT NULL,             -- '' while it is not activated
  created_at  BIGINT NOT NULL,
  version     BIGINT NOT NULL
);
-- Names are found, and are unique, regardless of case.
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

-- The state of the instance: its id, its role, its cursor in the parent's feed, and so on.
CREATE TABLE settings (
  name  TEXT COLLATE "C" PRIMARY KEY,
  value TEXT NOT NULL
);

-- Sync ------------------------------------------------------------------

-- Blobs that are being fetched from a source. hash_state is the digest state of the first
-- hashed bytes.
CREATE TABLE transfers (
  digest     TEXT COLLATE "C" PRIMARY KEY,
  size       BIGINT NOT NULL,
  ranges     TEXT NOT NULL,   -- that are on disk: a JSON array of [start, end) pairs
  hashed     BIGINT NOT NULL,
  hash_state BYTEA NOT NULL,
  updated_at BIGINT NOT NULL
);

-- The items that a source has in a repository that follows it: one row for each tag, and
-- for each untagged manifest.
CREATE TABLE sync_items (
  source     TEXT COLLATE "C" NOT NULL, -- '' is the parent; else a mirror rule or an import
  repository TEXT COLLATE "C" NOT NULL,
  item       TEXT COLLATE "C" NOT NULL, -- the tag, or the digest of an untagged manifest
  tag        TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL, -- the source's digest; '' if the item must be removed
  part       TEXT COLLATE "C" NOT NULL, -- identifies the part of an index that the source has; '' is the whole
  state      TEXT NOT NULL,             -- pending, synced or failed
  error      TEXT NOT NULL,
  permanent  INTEGER NOT NULL,          -- 1 if it failed, and will fail until the source changes
  changed_at BIGINT NOT NULL,           -- when the item last changed at the source
  synced_at  BIGINT NOT NULL,           -- when this registry last had the item; 0 is never
  PRIMARY KEY (source, repository, item)
);
CREATE INDEX sync_items_state ON sync_items (source, state);
-- Pruning looks up for every untagged manifest whether an item needs it.
CREATE INDEX sync_items_digest ON sync_items (repository, digest);

-- The repositories that the running pass over all repositories of a source has listed. At
-- its end, the others are removed.
CREATE TABLE sync_pass (
  source     TEXT COLLATE "C" NOT NULL,
  repository TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (source, repository)
);

-- Orders to keep a repository in sync with one of another registry.
CREATE TABLE mirror_rules (
  name        TEXT COLLATE "C" PRIMARY KEY,
  spec        TEXT NOT NULL,                    -- settings of an operator; JSON
  secret      TEXT NOT NULL,                    -- the source's password, sealed; '' is none
  repository  TEXT COLLATE "C" NOT NULL UNIQUE, -- that the rule fills
  created_at  BIGINT NOT NULL,
  version     BIGINT NOT NULL,                  -- counts edits; the resource's ETag
  -- Its last run. Times are 0 for never.
  asked_at     BIGINT NOT NULL,           -- when an operator last requested a run
  owed_at      BIGINT NOT NULL DEFAULT 0, -- when the run was due that has to be retried; 0 is none
  started_at   BIGINT NOT NULL,
  ended_at     BIGINT NOT NULL,
  succeeded_at BIGINT NOT NULL, -- when the repository last matched its source
  error        TEXT NOT NULL,   -- why the last run did not succeed
  warnings     TEXT NOT NULL    -- problems that did not stop it; JSON
);
