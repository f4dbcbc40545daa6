package metadb

import (
	"cmp"
	"database/sql"
	"slices"
)

// SQLite, its driver and database/sql each hold a copy of a row. Therefore a large payload is
// stored in rows of its own.
const (
	// MaxInRow is the largest payload, in bytes, that is stored in its manifest's row.
	MaxInRow = 128 << 10
	// ChunkSize is the size, in bytes, of the chunks of a larger payload.
	ChunkSize = 32 << 10
)

// splitPayload returns the part of a payload for the manifest's row, and the chunks for rows of
// their own.
func splitPayload(payload []byte) (inRow []byte, chunks [][]byte) {
	if len(payload) <= MaxInRow {
		return payload, nil
	}
	return nil, slices.Collect(slices.Chunk(payload, ChunkSize))
}

// putChunks replaces the chunks of a manifest's payload.
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

// AppendManifestChunk appends to b chunk n, beginning at 0, of the payload of a manifest whose
// row does not contain it. The error is [ErrNotFound] after the last chunk.
func (tx *Tx) AppendManifestChunk(b []byte, repository, digest string, n int) ([]byte, error) {
	action := "read manifest " + repository + "@" + digest
	rows, err := tx.statements.QueryContext(tx.ctx,
		`SELECT content FROM manifest_chunks WHERE repository = $1 AND digest = $2 AND n = $3`, repository, digest, n)
	if err != nil {
		return b, wrap(tx.note(err), action)
	}
	defer rows.Close()
	if !rows.Next() {
		return b, wrap(cmp.Or(tx.note(rows.Err()), ErrNotFound), action)
	}
	var content sql.RawBytes // avoids another copy
	if err := rows.Scan(&content); err != nil {
		return b, wrap(err, action)
	}
	return append(b, content...), nil
}

// splitPayloads moves large payloads out of their manifests' rows. It is a part of the second
// migration, so it must not change with the code above.
func splitPayloads(tx *Tx) error {
	large, err := list[ManifestRef](tx, "list large manifests",
		`SELECT repository, digest FROM manifests WHERE size > 131072`)
	for _, m := range large {
		payload, err := get[[]byte](tx, "read manifest "+m.Repository+"@"+m.Digest,
			`SELECT payload FROM manifests WHERE repository = $1 AND digest = $2`, m.Repository, m.Digest)
		if err != nil {
			return err
		}
		n := 0
		for chunk := range slices.Chunk(payload, 32768) {
			if _, err := tx.exec(`INSERT INTO manifest_chunks (repository, digest, n, content) VALUES ($1, $2, $3, $4)`,
				m.Repository, m.Digest, n, chunk); err != nil {
				return err
			}
			n++
		}
		if _, err := tx.exec(`UPDATE manifests SET payload = NULL WHERE repository = $1 AND digest = $2`,
			m.Repository, m.Digest); err != nil {
			return err
		}
	}
	return err
}
