package metadb

import "time"

// A Conflict is a row of conflicts: a tag that this registry and its parent both changed. The
// parent's change holds.
type Conflict struct {
	Repository, Tag string
	Digest          string // of this registry; "" if it removed the tag
	ParentDigest    string // "" if the parent removed the tag
	KeptAs          string // the tag that names Digest now; "" if there is none
	FoundAt         time.Time
}

const conflictColumns = `repository, tag, digest, parent_digest, kept_as, found_at`

func (c *Conflict) fields() []any {
	return []any{&c.Repository, &c.Tag, &c.Digest, &c.ParentDigest, &c.KeptAs, at(&c.FoundAt)}
}

// Conflicts returns up to limit conflicts, the latest first.
func (tx *Tx) Conflicts(limit int) ([]Conflict, error) {
	return list[Conflict](tx, "list conflicts", `SELECT `+conflictColumns+` FROM conflicts
		ORDER BY found_at DESC, repository, tag, digest LIMIT $1`, limit)
}

// CountConflicts returns the number of conflicts.
func (tx *Tx) CountConflicts() (int, error) {
	return get[int](tx, "count conflicts", `SELECT COUNT(*) FROM conflicts`)
}

// PutConflict writes a conflict.
func (tx *Tx) PutConflict(c Conflict) error {
	return tx.do("write conflict of "+c.Repository+":"+c.Tag,
		`INSERT INTO conflicts (`+conflictColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (repository, tag, digest) DO UPDATE SET parent_digest = excluded.parent_digest,
		kept_as = excluded.kept_as, found_at = excluded.found_at`,
		c.Repository, c.Tag, c.Digest, c.ParentDigest, c.KeptAs, millis(c.FoundAt))
}

// ResolveConflicts deletes the conflicts of a tag, and returns how many there were.
func (tx *Tx) ResolveConflicts(repository, tag string) (int64, error) {
	n, err := tx.exec(`DELETE FROM conflicts WHERE repository = $1 AND (tag = $2 OR kept_as = $2)`,
		repository, tag)
	return n, wrap(err, "delete conflicts of "+repository+":"+tag)
}

// TagLeft deletes the conflicts that the removal of a tag ends: those whose version of this registry
// the tag named, and refused removals of the tag.
func (tx *Tx) TagLeft(repository, tag string) error {
	return tx.do("delete conflicts of "+repository+":"+tag, `DELETE FROM conflicts
		WHERE repository = $1 AND (kept_as = $2 OR digest = '' AND tag = $2)`, repository, tag)
}
