package metadb

import "time"

// A Transfer is a row of transfers: a blob on its way in from a parent.
// Ranges is a JSON array of [start, end) pairs that are durable on disk, and
// the first Hashed bytes have the digest state HashState.
type Transfer struct {
	Digest    string
	Size      int64 // bytes
	Ranges    string
	Hashed    int64 // bytes
	HashState []byte
	CreatedAt time.Time
	UpdatedAt time.Time
}

const transferColumns = `digest, size, ranges, hashed, hash_state, created_at, updated_at`

func scanTransfer(row scanner) (t Transfer, err error) {
	var created, updated int64
	err = row.Scan(&t.Digest, &t.Size, &t.Ranges, &t.Hashed, &t.HashState, &created, &updated)
	t.CreatedAt, t.UpdatedAt = fromMillis(created), fromMillis(updated)
	return t, err
}

// Transfer returns the transfer of the blob digest.
func (tx *Tx) Transfer(digest string) (Transfer, error) {
	t, err := scanTransfer(tx.row(`SELECT `+transferColumns+` FROM transfers WHERE digest = $1`, digest))
	return t, wrap(err, "read transfer %s", digest)
}

// PutTransfer writes the transfer, new or known.
func (tx *Tx) PutTransfer(t Transfer) error {
	_, err := tx.exec(`INSERT INTO transfers (`+transferColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (digest) DO UPDATE SET size = excluded.size, ranges = excluded.ranges, hashed = excluded.hashed,
		hash_state = excluded.hash_state, updated_at = excluded.updated_at`,
		t.Digest, t.Size, t.Ranges, t.Hashed, t.HashState, millis(t.CreatedAt), millis(t.UpdatedAt))
	return wrap(err, "write transfer %s", t.Digest)
}

// DeleteTransfer removes the transfer's row, if it is there.
func (tx *Tx) DeleteTransfer(digest string) error {
	_, err := tx.exec(`DELETE FROM transfers WHERE digest = $1`, digest)
	return wrap(err, "delete transfer %s", digest)
}

// StaleTransfers returns up to limit transfers that nothing was written to since before.
func (tx *Tx) StaleTransfers(before time.Time, limit int) ([]Transfer, error) {
	all, err := list(tx, scanTransfer, `SELECT `+transferColumns+` FROM transfers WHERE updated_at < $1 ORDER BY digest LIMIT $2`, millis(before), limit)
	return all, wrap(err, "list stale transfers")
}
