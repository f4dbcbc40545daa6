package metadb

// This file decides which blobs are garbage: no manifest refers to them, no repository links
// them, and no lease holds them.

// unreferenced is the condition that no manifest of the repository refers to the blob of a row
// of repository_blobs.
const unreferenced = `NOT EXISTS (SELECT 1 FROM manifest_children c
	WHERE c.child = repository_blobs.digest AND c.repository = repository_blobs.repository AND c.kind = 0)`

// A StaleLink says when an unreferenced link without a lease is stale: if it is older than
// Before, and, while the repository is pushed to, also older than BeforePush. A repository is
// pushed to while it has an unreferenced link younger than Before, or an upload that was
// written to since Written.
type StaleLink struct {
	Before, BeforePush, Written Uptime
}

// UnlinkUnreferenced deletes the stale links, and returns their number.
func (tx *Tx) UnlinkUnreferenced(s StaleLink, now Uptime) (int64, error) {
	n, err := tx.exec(`WITH pushed AS (
			SELECT repository FROM repository_blobs WHERE linked_at >= $1 AND `+unreferenced+`
			UNION SELECT repository FROM uploads WHERE updated_at >= $4)
		DELETE FROM repository_blobs WHERE linked_at < $1 AND `+unreferenced+`
		AND (linked_at < $3 OR repository NOT IN (SELECT repository FROM pushed))
		AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = repository_blobs.digest AND l.expires_at >= $2)`,
		s.Before, now, s.BeforePush, s.Written)
	return n, wrap(err, "unlink stale blobs")
}

// garbage is the condition that a blob was stored before $1, that no repository links it, and
// that no lease holds it at $2.
const garbage = `stored_at < $1
	AND NOT EXISTS (SELECT 1 FROM repository_blobs r WHERE r.digest = blobs.digest)
	AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = blobs.digest AND l.expires_at >= $2)`

// Garbage returns up to limit blobs that were stored before the given time, that no repository
// links, and that no lease holds at now.
func (tx *Tx) Garbage(before, now Uptime, limit int) ([]Blob, error) {
	return list[Blob](tx, "list garbage", `SELECT `+blobColumns+` FROM blobs WHERE `+garbage+`
		ORDER BY digest LIMIT $3`, before, now, limit)
}

// DeleteIfGarbage deletes the blob's row if [Tx.Garbage] would still return it, and reports
// whether it did. The caller deletes the file afterwards.
func (tx *Tx) DeleteIfGarbage(digest string, before, now Uptime) (bool, error) {
	n, err := tx.exec(`DELETE FROM blobs WHERE `+garbage+` AND digest = $3`, before, now, digest)
	return n > 0, wrap(err, "delete blob "+digest)
}

// Lease keeps the blob digest from garbage collection until expires, or until a later time that
// the holder requested before.
func (tx *Tx) Lease(holder, digest string, expires Uptime) error {
	return tx.do("lease "+digest, `INSERT INTO leases (holder, digest, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (holder, digest) DO UPDATE SET expires_at = excluded.expires_at
		WHERE leases.expires_at < excluded.expires_at`, holder, digest, expires)
}

// Release deletes every lease of holder.
func (tx *Tx) Release(holder string) error {
	return tx.do("release leases of "+holder, `DELETE FROM leases WHERE holder = $1`, holder)
}

// ReleaseBefore deletes the leases of holder that expire before the given time.
func (tx *Tx) ReleaseBefore(holder string, expires Uptime) error {
	return tx.do("release leases of "+holder,
		`DELETE FROM leases WHERE holder = $1 AND expires_at < $2`, holder, expires)
}

// DeleteExpiredLeases deletes the leases that expired before now.
func (tx *Tx) DeleteExpiredLeases(now Uptime) error {
	return tx.do("delete expired leases", `DELETE FROM leases WHERE expires_at < $1`, now)
}
