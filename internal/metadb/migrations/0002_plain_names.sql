-- Columns and states of this version have the field's names, large manifests are stored in
-- chunks, and the feed knows when damaged content was back in service.

-- Large manifests ---------------------------------------------------------

-- The payload of a large manifest moves to rows of its own, because SQLite, its driver and
-- database/sql each hold a copy of a row while it is read or written. The table is created
-- again, because SQLite cannot change a column to allow NULL.
DROP INDEX manifests_subject;
ALTER TABLE manifests RENAME TO manifests_1;

CREATE TABLE manifests (
  repository    TEXT COLLATE "C" NOT NULL,
  digest        TEXT COLLATE "C" NOT NULL,
  media_type    TEXT NOT NULL,
  artifact_type TEXT NOT NULL,
  subject       TEXT COLLATE "C" NOT NULL, -- '' is none
  annotations   TEXT NOT NULL,             -- a JSON object; those that are listed with referrers
  payload       BYTEA,                     -- NULL if it is in manifest_chunks
  size          BIGINT NOT NULL,           -- of the payload, in bytes
  pushed_at     BIGINT NOT NULL,
  locks         INTEGER NOT NULL DEFAULT 0,
  was_referenced INTEGER NOT NULL DEFAULT 0, -- 1 once a tag, an index or a subject referenced it
  seq           BIGINT NOT NULL DEFAULT 0,  -- the sequence number of the change that added it
  damaged       INTEGER NOT NULL DEFAULT 0, -- 1 if the payload does not match the digest
  PRIMARY KEY (repository, digest)
);
CREATE INDEX manifests_subject ON manifests (repository, subject, pushed_at, digest);

-- The payload of a manifest of more than 128 KiB, in chunks of 32 KiB. Go code writes them
-- after these statements (splitPayloads), because SQL would read a whole payload for each.
CREATE TABLE manifest_chunks (
  repository TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  n          INTEGER NOT NULL, -- 0 is the first
  content    BYTEA NOT NULL,
  PRIMARY KEY (repository, digest, n),
  FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
);

INSERT INTO manifests (repository, digest, media_type, artifact_type, subject, annotations, payload, size, pushed_at,
    locks, was_referenced, seq, damaged)
  SELECT repository, digest, media_type, artifact_type, subject, annotations,
    payload, LENGTH(payload), pushed_at, locks, was_referenced, seq, damaged
  FROM manifests_1;

DROP TABLE manifests_1;

-- Names ---------------------------------------------------------------------

-- kind is 0 for a config, a layer or another blob, 1 for a manifest that the index holds, and
-- 2 for one that it omits.
ALTER TABLE manifest_children RENAME COLUMN manifest TO kind;

ALTER TABLE mirror_rules RENAME COLUMN asked_at TO requested_at;
ALTER TABLE mirror_rules RENAME COLUMN owed_at TO retry_since;

-- Keys of JSON objects. The text of a string cannot match: its quotation marks are escaped.
UPDATE settings SET value = REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(value,
    '"whole":', '"watermarks":'),
    '"heard":', '"lastAnswer":'),
    '"trouble":', '"problem":'),
    '"left":', '"inFlight":'),
    '"Left":', '"TimeLeft":')
  WHERE name = 'connected-registry';

UPDATE connected_registries SET status = REPLACE(REPLACE(REPLACE(status,
    '"open":', '"outOfSync":'),
    '"from":', '"source":'),
    '"why":', '"reason":');

-- Feed ----------------------------------------------------------------------

-- The sequence number of the last time that damaged content was back in service.
ALTER TABLE feed ADD COLUMN healed_seq BIGINT NOT NULL DEFAULT 0;
