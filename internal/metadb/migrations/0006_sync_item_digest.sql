-- +goose Up

-- A sweep asks of every loose manifest whether an item leads to it.
CREATE INDEX sync_items_digest ON sync_items (repository, digest);
