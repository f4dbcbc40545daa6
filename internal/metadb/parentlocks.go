package metadb

import "errors"

// A parentLock is a row of parent_locks.
type parentLock struct {
	item  string
	locks Locks
}

func (l *parentLock) fields() []any { return []any{&l.item, &l.locks} }

// ParentLocks returns the locks that the parent's listings have for items of repository: tags,
// digests, and "" for the repository itself. Items without a row have no locks.
func (tx *Tx) ParentLocks(repository string) (map[string]Locks, error) {
	rows, err := list[parentLock](tx, "list locks of the parent in "+repository,
		`SELECT item, locks FROM parent_locks WHERE repository = $1`, repository)
	all := map[string]Locks{}
	for _, row := range rows {
		all[row.item] = row.locks
	}
	return all, err
}

// ParentLock returns the locks that the parent's listings have for one item, and whether there is a
// row for it.
func (tx *Tx) ParentLock(repository, item string) (locks Locks, known bool, err error) {
	row, err := get[parentLock](tx, "read locks of the parent for "+item+" in "+repository,
		`SELECT item, locks FROM parent_locks WHERE repository = $1 AND item = $2`, repository, item)
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	return row.locks, err == nil, err
}

// SetParentLock writes the row of an item.
func (tx *Tx) SetParentLock(repository, item string, locks Locks) error {
	return tx.do("write locks of the parent for "+item+" in "+repository,
		`INSERT INTO parent_locks (repository, item, locks) VALUES ($1, $2, $3)
		ON CONFLICT (repository, item) DO UPDATE SET locks = excluded.locks`, repository, item, uint8(locks))
}

// DeleteParentLock deletes the row of an item, if there is one.
func (tx *Tx) DeleteParentLock(repository, item string) error {
	return tx.do("delete locks of the parent for "+item+" in "+repository,
		`DELETE FROM parent_locks WHERE repository = $1 AND item = $2`, repository, item)
}

// DeleteParentLocks deletes the rows of a repository.
func (tx *Tx) DeleteParentLocks(repository string) error {
	return tx.do("delete locks of the parent in "+repository,
		`DELETE FROM parent_locks WHERE repository = $1`, repository)
}

// HasLocks reports whether any repository, tag or manifest is locked.
func (tx *Tx) HasLocks() (bool, error) {
	return get[bool](tx, "look for locks", `SELECT EXISTS (SELECT 1 FROM repositories WHERE locks <> 0)
		OR EXISTS (SELECT 1 FROM manifests WHERE locks <> 0) OR EXISTS (SELECT 1 FROM tags WHERE locks <> 0)`)
}

// inheritedLocks is the locks that new content gets: those of the parent's listing, or else.
func inheritedLocks(repository, item, otherwise string) string {
	return `COALESCE((SELECT locks FROM parent_locks WHERE repository = ` + repository + ` AND item = ` + item + `), ` +
		otherwise + `)`
}
