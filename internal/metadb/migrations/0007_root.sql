-- A root of several processes, continued. An old process may run beside a new one, so this only adds.

-- Imports -----------------------------------------------------------------

-- Copies of single images of other registries: those that wait or run, and the latest that have ended.
CREATE TABLE imports (
  id         TEXT COLLATE "C" PRIMARY KEY, -- follows from the source and the destinations
  number     BIGINT NOT NULL,              -- orders the requests
  spec       TEXT NOT NULL,                -- settings of an operator; JSON
  secret     TEXT NOT NULL,                -- user, password and authorities for the source, sealed; '' after the end
  actor      TEXT NOT NULL,                -- the operator who requested it
  sender     TEXT NOT NULL,                -- the address of the request
  state      TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at   BIGINT NOT NULL,              -- 0 until it ends
  status     TEXT NOT NULL                 -- progress and result; JSON
);
CREATE UNIQUE INDEX imports_number ON imports (number);

-- Questions ---------------------------------------------------------------

-- 1 once a process has begun to do what a question asks for.
ALTER TABLE questions ADD COLUMN taken INTEGER NOT NULL DEFAULT 0;

-- Logins ------------------------------------------------------------------

-- Logins with an OpenID Connect provider that have ended, so that no process ends one again.
CREATE TABLE used_logins (
  state   TEXT COLLATE "C" PRIMARY KEY, -- a hash
  ends_at BIGINT NOT NULL               -- in Unix seconds; then no process accepts the login any more
);
