-- The state of a whole fleet, retention, credentials that renew themselves, events, and operators with
-- limits.

-- Fleet -----------------------------------------------------------------



-- Retention ---------------------------------------------------------------

-- The locks that the parent's listings have for content of this registry, present or not yet. An
-- item is a tag, or the digest of a manifest, or '' for the repository itself. A row may have no
-- lock: the item is then unlocked when its new content is here.
CREATE TABLE parent_locks (
  repository TEXT COLLATE "C" NOT NULL,
  item       TEXT COLLATE "C" NOT NULL,
  locks      INTEGER NOT NULL,
  PRIMARY KEY (repository, item)
);
CREATE INDEX manifests_locked ON manifests (repository) WHERE locks <> 0;

-- When a manifest last lost a tag or an index: the sequence number of that change, and its time in
-- uptime. 0 is never, or before this version: then at released-before and released-before-at.
ALTER TABLE manifests ADD COLUMN released_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE manifests ADD COLUMN released_at BIGINT NOT NULL DEFAULT 0;
INSERT INTO counters (name, value) SELECT 'released-before', value FROM counters WHERE name = 'feed';
INSERT INTO counters (name, value) SELECT 'released-before-at', value FROM counters WHERE name = 'uptime';

-- Standing orders to purge repositories.
CREATE TABLE purge_rules (
  name         TEXT COLLATE "C" PRIMARY KEY,
  spec         TEXT NOT NULL,   -- settings of an operator, JSON
  created_at   BIGINT NOT NULL,
  version      BIGINT NOT NULL, -- counts edits: the ETag of the resource
  requested_at BIGINT NOT NULL, -- when an operator last requested a run, 0 is never
  started_at   BIGINT NOT NULL, -- of its last run, 0 is never
  ended_at     BIGINT NOT NULL,
  result       TEXT NOT NULL    -- of its last run, JSON
);



-- Credentials -------------------------------------------------------------



-- Events and audit --------------------------------------------------------

-- What happened to content, here and at descendants, in the order in which this instance recorded
-- it. The oldest are deleted when there are too many.
CREATE TABLE events (
  id         BIGINT PRIMARY KEY,
  origin     TEXT COLLATE "C" NOT NULL, -- identifies the event, together with its registry
  registry   TEXT COLLATE "C" NOT NULL, -- the connected registry where it happened; '' is a root
  at         BIGINT NOT NULL,
  type       TEXT NOT NULL,
  repository TEXT COLLATE "C" NOT NULL,
  tag        TEXT COLLATE "C" NOT NULL, -- '' is none
  digest     TEXT COLLATE "C" NOT NULL, -- '' is a whole repository
  media_type TEXT NOT NULL,
  size       BIGINT NOT NULL,
  reason     TEXT NOT NULL,             -- a code for programs
  detail     TEXT NOT NULL,             -- for people
  forward    INTEGER NOT NULL           -- 1 until the parent has it
);
CREATE UNIQUE INDEX events_origin ON events (registry, origin);

CREATE TABLE webhooks (
  name       TEXT COLLATE "C" PRIMARY KEY,
  spec       TEXT NOT NULL,   -- settings of an operator; JSON
  secrets    TEXT NOT NULL,   -- its address, headers and key, sealed
  created_at BIGINT NOT NULL,
  version    BIGINT NOT NULL  -- counts edits; the resource's ETag
);

-- Events that a webhook gets: those that wait, the last that it got, and those that were given up.
CREATE TABLE deliveries (
  webhook    TEXT COLLATE "C" NOT NULL,
  id         BIGINT NOT NULL,
  queue      TEXT COLLATE "C" NOT NULL, -- deliveries of one queue are sent in order
  event      TEXT NOT NULL,             -- the CloudEvent; JSON
  state      TEXT NOT NULL,             -- pending, delivered or dead
  tries      BIGINT NOT NULL,
  queued_at  BIGINT NOT NULL,
  next_at    BIGINT NOT NULL,           -- of the next try
  tried_at   BIGINT NOT NULL,           -- of the last try; 0 is never
  status     BIGINT NOT NULL,           -- of the last answer; 0 is none
  error      TEXT NOT NULL,
  PRIMARY KEY (webhook, id)
);
CREATE INDEX deliveries_state ON deliveries (webhook, state, queue, id);

-- When a client first pulled the manifest; 0 is never.
ALTER TABLE manifests ADD COLUMN pulled_at BIGINT NOT NULL DEFAULT 0;

-- An entry of a connected registry has its name, and an origin that identifies it there. Those of
-- this instance have neither.
ALTER TABLE audit ADD COLUMN registry TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN origin TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE UNIQUE INDEX audit_origin ON audit (registry, origin) WHERE registry <> '';
CREATE INDEX audit_registry ON audit (registry, id);


-- Operators ---------------------------------------------------------------

-- JSON lists; both are empty for an operator without limits.
ALTER TABLE operators ADD COLUMN repositories TEXT NOT NULL DEFAULT '[]'; -- names, prefix/* or *
ALTER TABLE operators ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';       -- KEY=VALUE
ALTER TABLE operators ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

CREATE TABLE api_keys (
  operator     TEXT COLLATE "C" NOT NULL,
  name         TEXT COLLATE "C" NOT NULL,
  hash         TEXT NOT NULL, -- SHA-256 in hex
  role         TEXT NOT NULL, -- admin or reader
  repositories TEXT NOT NULL, -- as those of operators
  labels       TEXT NOT NULL,
  created_at   BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL,
  used_at      BIGINT NOT NULL,
  PRIMARY KEY (operator, name)
);

-- Outbox ------------------------------------------------------------------

-- The changes that clients made to items of a connected registry, until the parent has them: one row
-- for each item, with its last change.
CREATE TABLE outbox (
  repository TEXT COLLATE "C" NOT NULL,
  item       TEXT COLLATE "C" NOT NULL, -- the tag, or the digest of an untagged manifest; '' is the repository
  tag        TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL, -- '' if the item was removed
  base       TEXT COLLATE "C" NOT NULL, -- the parent's digest when the item was first changed; '' is none
  attempted  TEXT NOT NULL,             -- digests that were sent without an answer: a JSON array
  state      TEXT NOT NULL,             -- unsent, failed, or sent
  version    BIGINT NOT NULL,           -- orders the changes
  seq        BIGINT NOT NULL,           -- the sequence number there of the answer; earlier listings are outdated
  error      TEXT NOT NULL,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (repository, item)
);
CREATE INDEX outbox_version ON outbox (state, version);

-- The uploads at the parent that have begun.
CREATE TABLE outbox_uploads (
  repository TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  location   TEXT NOT NULL,
  PRIMARY KEY (repository, digest)
);

-- Tags that this registry and its parent both changed.
CREATE TABLE conflicts (
  repository    TEXT COLLATE "C" NOT NULL,
  tag           TEXT COLLATE "C" NOT NULL,
  digest        TEXT COLLATE "C" NOT NULL, -- of this registry; '' if the tag was removed here
  parent_digest TEXT COLLATE "C" NOT NULL, -- '' if the tag was removed there
  kept_as       TEXT COLLATE "C" NOT NULL, -- the tag that names digest now; '' is none
  found_at      BIGINT NOT NULL,
  PRIMARY KEY (repository, tag, digest)
);
