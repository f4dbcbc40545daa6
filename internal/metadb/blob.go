package metadb

import "time"

// A Blob is a row of blobs: a complete and verified blob whose file is in its place.
type Blob struct {
	Digest    string
	Size      int64 // bytes
	CreatedAt time.Time
	StoredAt  Uptime // the same moment; the blob's age is counted from it
}

// A RepositoryBlob is a blob, and its link to one repository.
type RepositoryBlob struct {
	Blob
	LinkedAt Uptime // when the link was created or renewed
	Locks    Locks  // the repository's
}

func (b *RepositoryBlob) fields() []any { return append(b.Blob.fields(), &b.LinkedAt, &b.Locks) }

const blobColumns = `blobs.digest, blobs.size, blobs.created_at, blobs.stored_at`

func (b *Blob) fields() []any {
	return []any{&b.Digest, &b.Size, at(&b.CreatedAt), &b.StoredAt}
}

// Blob returns the blob digest, whatever repositories link it.
func (tx *Tx) Blob(digest string) (Blob, error) {
	return get[Blob](tx, "read blob "+digest, `SELECT `+blobColumns+` FROM blobs WHERE digest = $1`, digest)
}

// KnowsBlob reports whether the blob digest is here or is being transferred. It may be damaged.
func (tx *Tx) KnowsBlob(digest string) (bool, error) {
	return get[bool](tx, "read blob "+digest, `SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = $1)
		OR EXISTS (SELECT 1 FROM damaged WHERE repository = '' AND digest = $1)
		OR EXISTS (SELECT 1 FROM transfers WHERE digest = $1)`, digest)
}

// RepositoryBlob returns the blob digest if it is linked to repository.
func (tx *Tx) RepositoryBlob(repository, digest string) (RepositoryBlob, error) {
	return get[RepositoryBlob](tx, "read blob "+digest+" of "+repository,
		`SELECT `+blobColumns+`, l.linked_at, r.locks FROM repository_blobs l
		JOIN blobs ON blobs.digest = l.digest JOIN repositories r ON r.name = l.repository
		WHERE l.repository = $1 AND l.digest = $2`, repository, digest)
}

// BlobReferenced reports whether a manifest of repository refers to the blob digest.
func (tx *Tx) BlobReferenced(repository, digest string) (bool, error) {
	return get[bool](tx, "read references to "+digest, `SELECT EXISTS (SELECT 1 FROM manifest_children
		WHERE child = $1 AND repository = $2 AND kind = 0)`, digest, repository)
}

// PutBlob records that the complete blob is in its place. If it has a row, the row is kept.
func (tx *Tx) PutBlob(b Blob) error {
	if err := tx.forgetDamage("", b.Digest); err != nil {
		return err
	}
	return tx.do("write blob "+b.Digest,
		`INSERT INTO blobs (digest, size, created_at, stored_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (digest) DO NOTHING`, b.Digest, b.Size, millis(b.CreatedAt), b.StoredAt)
}

// LinkBlob links the blob digest to repository, which may serve it from now on, or makes the
// link as young as now.
func (tx *Tx) LinkBlob(repository, digest string, now Uptime) error {
	return tx.do("link blob "+digest+" to "+repository,
		`INSERT INTO repository_blobs (repository, digest, linked_at) VALUES ($1, $2, $3)
		ON CONFLICT (repository, digest) DO UPDATE SET linked_at = excluded.linked_at`, repository, digest, now)
}

// UnlinkBlob deletes the link of the blob digest to repository.
func (tx *Tx) UnlinkBlob(repository, digest string) error {
	return tx.one("unlink blob "+digest,
		`DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2`, repository, digest)
}

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

// UnlinkStale deletes the stale links, and returns their number.
func (tx *Tx) UnlinkStale(s StaleLink, now Uptime) (int64, error) {
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

// AbsentBlobs returns, in their order, those of digests that are not linked to repository, or
// that are damaged. All digests must be different.
func (tx *Tx) AbsentBlobs(repository string, digests []string) ([]string, error) {
	return tx.absent("read blobs of "+repository,
		`SELECT l.digest FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
		WHERE l.repository = $1 AND l.digest IN (%s)`, repository, digests)
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

// TotalOfBlobs returns the number and the bytes of all blobs in service.
func (tx *Tx) TotalOfBlobs() (Total, error) {
	return get[Total](tx, "count blobs", `SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blobs`)
}

// Blobs returns up to limit blobs after the digest after, by digest.
func (tx *Tx) Blobs(after string, limit int) ([]Blob, error) {
	return list[Blob](tx, "list blobs", `SELECT `+blobColumns+` FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2`,
		after, limit)
}
