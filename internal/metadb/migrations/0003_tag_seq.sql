-- +goose Up

-- The number in the change feed of the change that set a tag: whoever has not
-- come that far does not know of it. 0 is from before what the feed has.
ALTER TABLE tags ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
UPDATE tags SET seq = last.seq
  FROM (SELECT repository, tag, MAX(seq) AS seq FROM changes WHERE tag <> '' GROUP BY repository, tag) AS last
  WHERE tags.repository = last.repository AND tags.name = last.tag;
