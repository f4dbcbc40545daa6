-- The state of a whole fleet, retention, credentials that renew themselves, events, and operators with
-- limits.

-- Fleet -----------------------------------------------------------------



-- Retention ---------------------------------------------------------------



-- Credentials -------------------------------------------------------------



-- Events and audit --------------------------------------------------------



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
