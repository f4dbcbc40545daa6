package metadb

// A Transfer is a row of transfers: a blob on its way in from a parent.
// Ranges is a JSON array of [start, end) pairs that are durable on disk, and
// the first Hashed bytes have the digest state HashState.
type Transfer struct {
	Digest    string
	Size      int64 // bytes
	Ranges    string
	Hashed    int64 // bytes
	HashState []byte
	UpdatedAt Uptime // of the last write
}

const transferColumns = `digest, size, ranges, hashed, hash_state, updated_at`

func (t *Transfer) fields() []any {
	return []any{&t.Digest, &t.Size, &t.Ranges, &t.Hashed, &t.HashState, &t.UpdatedAt}
}

// Transfer returns the transfer of the blob digest.
func (tx *Tx) Transfer(digest string) (Transfer, error) {
	return get[Transfer](tx, "read transfer "+digest,
		`SELECT `+transferColumns+` FROM transfers WHERE digest = $1`, digest)
}

// Transfers returns every transfer.
func (tx *Tx) Transfers() ([]Transfer, error) {
	return list[Transfer](tx, "list transfers", `SELECT `+transferColumns+` FROM transfers`)
}

// PutTransfer writes the transfer, new or known.
func (tx *Tx) PutTransfer(t Transfer) error {
	return tx.do("write transfer "+t.Digest,
		`INSERT INTO transfers (`+transferColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (digest) DO UPDATE SET size = excluded.size, ranges = excluded.ranges, hashed = excluded.hashed,
		hash_state = excluded.hash_state, updated_at = excluded.updated_at`,
		t.Digest, t.Size, t.Ranges, t.Hashed, t.HashState, t.UpdatedAt)
}

// DeleteTransfer removes the transfer's row, if it is there.
func (tx *Tx) DeleteTransfer(digest string) error {
	return tx.do("delete transfer "+digest, `DELETE FROM transfers WHERE digest = $1`, digest)
}

// stale says of a transfer that nothing was written to it since $1, and that
// no lease holds its blob at $2.
const stale = `updated_at < $1 AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = transfers.digest AND l.expires_at >= $2)`

// StaleTransfers returns up to limit transfers after the digest after, in
// order, that nothing was written to since before and whose blobs no lease
// holds at now.
func (tx *Tx) StaleTransfers(before, now Uptime, after string, limit int) ([]Transfer, error) {
	return list[Transfer](tx, "list stale transfers", `SELECT `+transferColumns+` FROM transfers
		WHERE `+stale+` AND digest > $3 ORDER BY digest LIMIT $4`, before, now, after, limit)
}

// DeleteTransferIfStale removes the transfer's row if it is still what
// [Tx.StaleTransfers] returns, and reports whether it was.
func (tx *Tx) DeleteTransferIfStale(digest string, before, now Uptime) (bool, error) {
	n, err := tx.exec(`DELETE FROM transfers WHERE `+stale+` AND digest = $3`, before, now, digest)
	return n > 0, wrap(err, "delete transfer "+digest)
}
