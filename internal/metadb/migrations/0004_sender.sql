-- The address of a caller is the sender's. A source is where content is fetched from.
ALTER TABLE audit RENAME COLUMN source TO sender;
UPDATE connected_registries SET status = REPLACE(status, '"source":', '"sender":');

-- Earlier builds recorded a hash of the migrations here.
DELETE FROM settings WHERE name = 'schema';
