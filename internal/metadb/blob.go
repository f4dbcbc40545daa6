package metadb

import "time"

// A Blob is a row of blobs: content that is whole, verified and in its place.
type Blob struct {
	Digest    string
	Size      int64 // bytes
	CreatedAt time.Time
}

const blobColumns = `blobs.digest, blobs.size, blobs.created_at`

func scanBlob(row scanner) (b Blob, err error) {
	var created int64
	err = row.Scan(&b.Digest, &b.Size, &created)
	b.CreatedAt = fromMillis(created)
	return b, err
}

// Blob returns the blob digest, in whatever repository.
func (tx *Tx) Blob(digest string) (Blob, error) {
	b, err := scanBlob(tx.row(`SELECT `+blobColumns+` FROM blobs WHERE digest = $1`, digest))
	return b, wrap(err, "read blob %s", digest)
}

// RepositoryBlob returns the blob digest if repository may serve it.
func (tx *Tx) RepositoryBlob(repository, digest string) (Blob, error) {
	b, err := scanBlob(tx.row(`SELECT `+blobColumns+` FROM repository_blobs r JOIN blobs ON blobs.digest = r.digest
		WHERE r.repository = $1 AND r.digest = $2`, repository, digest))
	return b, wrap(err, "read blob %s of %s", digest, repository)
}

// BlobReferenced reports whether any manifest refers to the blob digest.
func (tx *Tx) BlobReferenced(digest string) (bool, error) {
	var n int
	err := tx.row(`SELECT COUNT(*) FROM (SELECT 1 FROM manifest_children WHERE child = $1 AND manifest = 0 LIMIT 1) t`, digest).Scan(&n)
	return n > 0, wrap(err, "read references to %s", digest)
}

// PutBlob notes that the blob is in its place. A second call keeps the first row.
func (tx *Tx) PutBlob(b Blob) error {
	_, err := tx.exec(`INSERT INTO blobs (digest, size, created_at) VALUES ($1, $2, $3)
		ON CONFLICT (digest) DO NOTHING`, b.Digest, b.Size, millis(b.CreatedAt))
	return wrap(err, "write blob %s", b.Digest)
}

// LinkBlob lets repository serve the blob digest, and renews the link's age.
func (tx *Tx) LinkBlob(repository, digest string, now time.Time) error {
	_, err := tx.exec(`INSERT INTO repository_blobs (repository, digest, linked_at) VALUES ($1, $2, $3)
		ON CONFLICT (repository, digest) DO UPDATE SET linked_at = excluded.linked_at`, repository, digest, millis(now))
	return wrap(err, "link blob %s to %s", digest, repository)
}

// UnlinkBlob takes the blob digest from repository.
func (tx *Tx) UnlinkBlob(repository, digest string) error {
	return tx.one("unlink blob "+digest, `DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2`, repository, digest)
}

// UnlinkStale removes the links, made before the given time, of blobs that no
// manifest of their repository refers to, unless a lease holds the blob at
// now. It returns how many went.
func (tx *Tx) UnlinkStale(before, now time.Time) (int64, error) {
	n, err := tx.exec(`DELETE FROM repository_blobs WHERE linked_at < $1
		AND NOT EXISTS (SELECT 1 FROM manifest_children c
			WHERE c.child = repository_blobs.digest AND c.repository = repository_blobs.repository AND c.manifest = 0)
		AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = repository_blobs.digest AND l.expires_at >= $2)`,
		millis(before), millis(now))
	return n, wrap(err, "unlink stale blobs")
}

// Garbage returns up to limit blobs, made before the given time, that no
// repository links and no lease holds at now.
func (tx *Tx) Garbage(before, now time.Time, limit int) ([]Blob, error) {
	all, err := list(tx, scanBlob, `SELECT `+blobColumns+` FROM blobs WHERE created_at < $1
		AND NOT EXISTS (SELECT 1 FROM repository_blobs r WHERE r.digest = blobs.digest)
		AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = blobs.digest AND l.expires_at >= $2)
		ORDER BY digest LIMIT $3`, millis(before), millis(now), limit)
	return all, wrap(err, "list garbage")
}

// DeleteIfGarbage removes the blob's row if it is still what [Tx.Garbage]
// returns, and reports whether it was. Its file is the caller's to remove, after.
func (tx *Tx) DeleteIfGarbage(digest string, before, now time.Time) (bool, error) {
	n, err := tx.exec(`DELETE FROM blobs WHERE digest = $3 AND created_at < $1
		AND NOT EXISTS (SELECT 1 FROM repository_blobs r WHERE r.digest = blobs.digest)
		AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.digest = blobs.digest AND l.expires_at >= $2)`,
		millis(before), millis(now), digest)
	return n > 0, wrap(err, "delete blob %s", digest)
}

// HasRepositoryBlob reports whether repository may serve the blob digest.
func (tx *Tx) HasRepositoryBlob(repository, digest string) (bool, error) {
	var n int
	err := tx.row(`SELECT COUNT(*) FROM repository_blobs WHERE repository = $1 AND digest = $2`, repository, digest).Scan(&n)
	return n > 0, wrap(err, "read blob %s of %s", digest, repository)
}
