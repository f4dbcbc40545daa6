-- A root of several processes.

-- Changes -----------------------------------------------------------------

-- What transactions of the processes of a root changed, in the order of their commits, so that each
-- process forgets what it keeps in memory of it. The oldest rows are deleted.
CREATE TABLE changes (
  id      BIGINT PRIMARY KEY,
  process TEXT NOT NULL, -- that wrote it
  changed TEXT NOT NULL  -- a JSON array of pairs of topic and name
);

-- The blobs without rows whose files a process deletes. A commit of the same blob waits for the end.
CREATE TABLE deletions (
  digest TEXT COLLATE "C" PRIMARY KEY,
  since  BIGINT NOT NULL -- in uptime
);

-- What processes ask the one that does the work of which there is only one, such as imports.
CREATE TABLE questions (
  id       TEXT COLLATE "C" PRIMARY KEY,
  question TEXT NOT NULL,  -- an HTTP request, encrypted
  answer   TEXT NOT NULL,  -- the answer, encrypted; '' is none yet
  since    BIGINT NOT NULL -- in uptime
);
