package metadb

import "time"

// Lease keeps the blob digest from collection until expires, or a later time
// that the holder asked for before.
func (tx *Tx) Lease(holder, digest string, expires time.Time) error {
	_, err := tx.exec(`INSERT INTO leases (holder, digest, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (holder, digest) DO UPDATE SET expires_at = excluded.expires_at
		WHERE leases.expires_at < excluded.expires_at`, holder, digest, millis(expires))
	return wrap(err, "lease %s", digest)
}

// Release ends every lease of holder.
func (tx *Tx) Release(holder string) error {
	_, err := tx.exec(`DELETE FROM leases WHERE holder = $1`, holder)
	return wrap(err, "release leases of %s", holder)
}

// ReleaseBefore ends those leases of holder that expire before the given time.
func (tx *Tx) ReleaseBefore(holder string, expires time.Time) error {
	_, err := tx.exec(`DELETE FROM leases WHERE holder = $1 AND expires_at < $2`, holder, millis(expires))
	return wrap(err, "release leases of %s", holder)
}

// DeleteExpiredLeases removes the leases that ended before now.
func (tx *Tx) DeleteExpiredLeases(now time.Time) error {
	_, err := tx.exec(`DELETE FROM leases WHERE expires_at < $1`, millis(now))
	return wrap(err, "delete expired leases")
}
