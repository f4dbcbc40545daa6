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

// AbsentBlobs returns, in their order, those of digests that are not linked to repository, or
// that are damaged. All digests must be different.
func (tx *Tx) AbsentBlobs(repository string, digests []string) ([]string, error) {
	return tx.absent("read blobs of "+repository,
		`SELECT l.digest FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
		WHERE l.repository = $1 AND l.digest IN (%s)`, repository, digests)
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
