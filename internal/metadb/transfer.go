package metadb

// A Transfer is a row of transfers: a blob that is being fetched from a source. Ranges is a
// JSON array of the [start, end) pairs that are durable on disk. HashState is the digest state
// of the first Hashed bytes.
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

// PutTransfer writes a transfer.
func (tx *Tx) PutTransfer(t Transfer) error {
	return tx.do("write transfer "+t.Digest,
		`INSERT INTO transfers (`+transferColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (digest) DO UPDATE SET size = excluded.size, ranges = excluded.ranges, hashed = excluded.hashed,
		hash_state = excluded.hash_state, updated_at = excluded.updated_at`,
		t.Digest, t.Size, t.Ranges, t.Hashed, t.HashState, t.UpdatedAt)
}

// DeleteTransfer deletes the row of a transfer, if there is one.
func (tx *Tx) DeleteTransfer(digest string) error {
	return tx.do("delete transfer "+digest, `DELETE FROM transfers WHERE digest = $1`, digest)
}

// stale is the condition that nothing was written to a transfer since $1, and that no lease
// holds its blob at $2.
const stale = `updated_at < $1 AND NOT EXISTS
	(SELECT 1 FROM leases l WHERE l.digest = transfers.digest AND l.expires_at >= $2)`

// StaleTransfers returns up to limit transfers after the digest after, in order, that were not
// written to since before, and whose blobs no lease holds at now.
func (tx *Tx) StaleTransfers(before, now Uptime, after string, limit int) ([]Transfer, error) {
	return list[Transfer](tx, "list stale transfers", `SELECT `+transferColumns+` FROM transfers
		WHERE `+stale+` AND digest > $3 ORDER BY digest LIMIT $4`, before, now, after, limit)
}

// DeleteTransferIfStale deletes the row of a transfer if [Tx.StaleTransfers] would still return
// it, and reports whether it did.
func (tx *Tx) DeleteTransferIfStale(digest string, before, now Uptime) (bool, error) {
	n, err := tx.exec(`DELETE FROM transfers WHERE `+stale+` AND digest = $3`, before, now, digest)
	return n > 0, wrap(err, "delete transfer "+digest)
}
