-- The state of a whole fleet, retention, credentials that renew themselves, events, and operators with
-- limits.

-- Fleet -----------------------------------------------------------------



-- Retention ---------------------------------------------------------------



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
