package metadb

// A Release is the last time that a manifest lost a tag, an index or its subject, or that it was
// added without any of these.
type Release struct {
	Seq int64  // of the change
	At  Uptime // of the change
}

func (r *Release) fields() []any { return []any{&r.Seq, &r.At} }

// The counters that say when manifests were released whose rows do not say it: before the version of
// the schema that records it.
const (
	releasedBefore   = "released-before"
	releasedBeforeAt = "released-before-at"
)

// ReleaseOf returns the release of the manifest digest of repository.
func (tx *Tx) ReleaseOf(repository, digest string) (Release, error) {
	counter := func(name string) string {
		return `COALESCE((SELECT value FROM counters WHERE name = '` + name + `'), 0)`
	}
	return get[Release](tx, "read release of "+repository+"@"+digest, `SELECT
		CASE WHEN released_seq = 0 THEN `+counter(releasedBefore)+` ELSE released_seq END,
		CASE WHEN released_seq = 0 THEN `+counter(releasedBeforeAt)+` ELSE released_at END
		FROM manifests WHERE repository = $1 AND digest = $2`, repository, digest)
}

// markReleased sets a release, unless there is a later one. The conditions follow.
const markReleased = `UPDATE manifests SET released_seq = $2, released_at = $3
	WHERE repository = $1 AND released_seq < $2 AND `

// MarkReleased records that a manifest lost a tag.
func (tx *Tx) MarkReleased(repository, digest string, r Release) error {
	return tx.do("record release of "+repository+"@"+digest, markReleased+`digest = $4`,
		repository, r.Seq, r.At, digest)
}

// MarkReleasedBelow records that the manifests that an index holds, and the referrers of a manifest,
// lost it.
func (tx *Tx) MarkReleasedBelow(repository, parent string, r Release) error {
	action := "record release below " + repository + "@" + parent
	err := tx.do(action, markReleased+`digest IN (SELECT child FROM manifest_children
		WHERE repository = $1 AND parent = $4 AND kind = 1)`, repository, r.Seq, r.At, parent)
	if err != nil {
		return err
	}
	return tx.do(action, markReleased+`subject = $4`, repository, r.Seq, r.At, parent)
}

// BlobReferences returns the size of a blob, and how many manifests of all repositories refer to it.
func (tx *Tx) BlobReferences(digest string) (size int64, manifests int, err error) {
	err = tx.statements.QueryRowContext(tx.ctx, `SELECT COALESCE((SELECT size FROM blobs WHERE digest = $1), 0),
		(SELECT COUNT(*) FROM manifest_children WHERE child = $1 AND kind = 0)`, digest).Scan(&size, &manifests)
	return size, manifests, wrap(tx.note(err), "count references to "+digest)
}
