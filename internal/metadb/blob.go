package metadb

import "time"

// A Blob is a row of blobs: content that is whole, verified and in its place.
type Blob struct {
	Digest    string
	Size      int64 // bytes
	CreatedAt time.Time
	StoredAt  Uptime // the same moment, as its age is counted
}

// A RepositoryBlob is a blob and what one repository says of it.
type RepositoryBlob struct {
	Blob
	LinkedAt Uptime // when its link was made or renewed
	Locks    Locks  // the repository's
}

func (b *RepositoryBlob) fields() []any { return append(b.Blob.fields(), &b.LinkedAt, &b.Locks) }

const blobColumns = `blobs.digest, blobs.size, blobs.created_at, blobs.stored_at`

func (b *Blob) fields() []any {
	return []any{&b.Digest, &b.Size, at(&b.CreatedAt), &b.StoredAt}
}

// Blob returns the blob digest, in whatever repository.
func (tx *Tx) Blob(digest string) (Blob, error) {
	return get[Blob](tx, "read blob "+digest, `SELECT `+blobColumns+` FROM blobs WHERE digest = $1`, digest)
}

// KnowsBlob reports whether the blob digest is here, maybe damaged, or on its way in.
func (tx *Tx) KnowsBlob(digest string) (bool, error) {
	return get[bool](tx, "read blob "+digest, `SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = $1)
		OR EXISTS (SELECT 1 FROM damaged WHERE repository = '' AND digest = $1)
		OR EXISTS (SELECT 1 FROM transfers WHERE digest = $1)`, digest)
}

// RepositoryBlob returns the blob digest if repository may serve it.
func (tx *Tx) RepositoryBlob(repository, digest string) (RepositoryBlob, error) {
	return get[RepositoryBlob](tx, "read blob "+digest+" of "+repository,
		`SELECT `+blobColumns+`, l.linked_at, r.locks FROM repository_blobs l
		JOIN blobs ON blobs.digest = l.digest JOIN repositories r ON r.name = l.repository
		WHERE l.repository = $1 AND l.digest = $2`, repository, digest)
}

// BlobReferenced reports whether a manifest of repository refers to the blob digest.
func (tx *Tx) BlobReferenced(repository, digest string) (bool, error) {
	return get[bool](tx, "read references to "+digest, `SELECT EXISTS (SELECT 1 FROM manifest_children
		WHERE child = $1 AND repository = $2 AND manifest = 0)`, digest, repository)
}

// PutBlob notes that the blob is in its place, whole. A second call keeps the first row.
func (tx *Tx) PutBlob(b Blob) error {
	if err := tx.forgetDamage("", b.Digest); err != nil {
		return err
	}
	return tx.do("write blob "+b.Digest, `INSERT INTO blobs (digest, size, created_at, stored_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (digest) DO NOTHING`, b.Digest, b.Size, millis(b.CreatedAt), b.StoredAt)
}

// LinkBlob lets repository serve the blob digest, and renews the link's age.
func (tx *Tx) LinkBlob(repository, digest string, now Uptime) error {
	return tx.do("link blob "+digest+" to "+repository,
		`INSERT INTO repository_blobs (repository, digest, linked_at) VALUES ($1, $2, $3)
		ON CONFLICT (repository, digest) DO UPDATE SET linked_at = excluded.linked_at`, repository, digest, now)
}

// UnlinkBlob takes the blob digest from repository.
func (tx *Tx) UnlinkBlob(repository, digest string) error {
	return tx.one("unlink blob "+digest,
		`DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2`, repository, digest)
}

// loose says of a row of repository_blobs that no manifest of the repository refers
// to its blob.
const loose = `NOT EXISTS (SELECT 1 FROM manifest_children c
	WHERE c.child = repository_blobs.digest AND c.repository = repository_blobs.repository AND c.manifest = 0)`

// A StaleLink is what makes a loose link stale that no lease holds: it was made before
// Before and, while the repository is pushed to, before BeforePush. A repository is
// pushed to while it has a loose link that was made since Before, or an upload that
// was written to since Written.
type StaleLink struct {
	Before, BeforePush, Written Uptime
}

// UnlinkStale removes the stale links. It returns how many went.
func (tx *Tx) UnlinkStale(s StaleLink, now Uptime) (int64, error) {
	n, err := tx.exec(`WITH pushed AS (SELECT repository FROM repository_blobs WHERE linked_at >= $1 AND `+loose+`
			UNION SELECT repository FROM uploads WHERE updated_at >= $4)
		DELETE FROM repository_blobs WHERE linked_at < $1 AND `+loose+`
		AND (linked_at < $3 OR repository NOT IN (SELECT repository FROM pushed))
		AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = repository_blobs.digest AND l.expires_at >= $2)`,
		s.Before, now, s.BeforePush, s.Written)
	return n, wrap(err, "unlink stale blobs")
}

// garbage says of a blob that it was stored before $1, and that no repository
// links it and no lease holds it at $2.
const garbage = `stored_at < $1
	AND NOT EXISTS (SELECT 1 FROM repository_blobs r WHERE r.digest = blobs.digest)
	AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = blobs.digest AND l.expires_at >= $2)`

// Garbage returns up to limit blobs, stored before the given time, that no
// repository links and no lease holds at now.
func (tx *Tx) Garbage(before, now Uptime, limit int) ([]Blob, error) {
	return list[Blob](tx, "list garbage", `SELECT `+blobColumns+` FROM blobs WHERE `+garbage+`
		ORDER BY digest LIMIT $3`, before, now, limit)
}

// DeleteIfGarbage removes the blob's row if it is still what [Tx.Garbage]
// returns, and reports whether it was. Its file is the caller's to remove, after.
func (tx *Tx) DeleteIfGarbage(digest string, before, now Uptime) (bool, error) {
	n, err := tx.exec(`DELETE FROM blobs WHERE `+garbage+` AND digest = $3`, before, now, digest)
	return n > 0, wrap(err, "delete blob "+digest)
}

// AbsentBlobs returns those of digests that repository may not serve, or that
// are damaged, in their order. The digests must differ from each other.
func (tx *Tx) AbsentBlobs(repository string, digests []string) ([]string, error) {
	return tx.absent("read blobs of "+repository,
		`SELECT l.digest FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
		WHERE l.repository = $1 AND l.digest IN (%s)`, repository, digests)
}

// Lease keeps the blob digest from collection until expires, or a later time
// that the holder asked for before.
func (tx *Tx) Lease(holder, digest string, expires Uptime) error {
	return tx.do("lease "+digest, `INSERT INTO leases (holder, digest, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (holder, digest) DO UPDATE SET expires_at = excluded.expires_at
		WHERE leases.expires_at < excluded.expires_at`, holder, digest, expires)
}

// Release ends every lease of holder.
func (tx *Tx) Release(holder string) error {
	return tx.do("release leases of "+holder, `DELETE FROM leases WHERE holder = $1`, holder)
}

// ReleaseBefore ends those leases of holder that expire before the given time.
func (tx *Tx) ReleaseBefore(holder string, expires Uptime) error {
	return tx.do("release leases of "+holder,
		`DELETE FROM leases WHERE holder = $1 AND expires_at < $2`, holder, expires)
}

// DeleteExpiredLeases removes the leases that ended before now.
func (tx *Tx) DeleteExpiredLeases(now Uptime) error {
	return tx.do("delete expired leases", `DELETE FROM leases WHERE expires_at < $1`, now)
}

// SumBlobs returns how many blobs are in service.
func (tx *Tx) SumBlobs() (Sum, error) {
	return get[Sum](tx, "count blobs", `SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blobs`)
}

// Blobs returns up to limit blobs after digest, in order.
func (tx *Tx) Blobs(after string, limit int) ([]Blob, error) {
	return list[Blob](tx, "list blobs", `SELECT `+blobColumns+` FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2`,
		after, limit)
}
