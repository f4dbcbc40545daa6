package metadb

import (
	"cmp"
	"database/sql"
	"slices"
)

// SQLite, its driver and database/sql each hold a copy of a row, so that a large payload
// is in rows of its own.
const (
	// MaxInRow is the size, in bytes, up to which a payload is in its manifest's row.
	MaxInRow = 128 << 10
	// ChunkSize is the size of the chunks, in bytes, that a larger payload is in.
	ChunkSize = 32 << 10
)

// splitPayload returns what of a payload is in the manifest's row, and what in rows of
// its own.
func splitPayload(payload []byte) (inRow []byte, chunks [][]byte) {
	if len(payload) <= MaxInRow {
		return payload, nil
	}
	return nil, slices.Collect(slices.Chunk(payload, ChunkSize))
}

// putChunks writes the chunks of a manifest's payload in place of those it had.
func (tx *Tx) putChunks(repository, digest string, chunks [][]byte) error {
	if _, err := tx.exec(`DELETE FROM manifest_chunks WHERE repository = $1 AND digest = $2`, repository,
		digest); err != nil {
		return err
	}
	for n, chunk := range chunks {
		_, err := tx.exec(`INSERT INTO manifest_chunks (repository, digest, n, content) VALUES ($1, $2, $3, $4)`,
			repository, digest, n, chunk)
		if err != nil {
			return err
		}
	}
	return nil
}

// AppendManifestChunk appends to b a chunk of the payload of a manifest whose row does not
// have it; n is 0 for the first. Behind the last it is [ErrNotFound].
func (tx *Tx) AppendManifestChunk(b []byte, repository, digest string, n int) ([]byte, error) {
	what := "read manifest " + repository + "@" + digest
	rows, err := tx.tx.QueryContext(tx.ctx,
		`SELECT content FROM manifest_chunks WHERE repository = $1 AND digest = $2 AND n = $3`, repository, digest, n)
	if err != nil {
		return b, wrap(err, what)
	}
	defer rows.Close()
	if !rows.Next() {
		return b, wrap(cmp.Or(rows.Err(), ErrNotFound), what)
	}
	var content sql.RawBytes // not a copy of its own
	if err := rows.Scan(&content); err != nil {
		return b, wrap(err, what)
	}
	return append(b, content...), nil
}
