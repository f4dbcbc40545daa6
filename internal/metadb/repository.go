package metadb

import "time"

// Locks are the attributes that protect content, as bits that package storage defines. The zero
// value locks nothing.
type Locks uint8

// A Repository is a row of repositories.
type Repository struct {
	Name      string
	CreatedAt time.Time
	UpdatedAt time.Time // of the last write
	Locks     Locks
}

const repositoryColumns = `name, created_at, updated_at, locks`

func (r *Repository) fields() []any {
	return []any{&r.Name, at(&r.CreatedAt), at(&r.UpdatedAt), &r.Locks}
}

// Repository returns the repository name.
func (tx *Tx) Repository(name string) (Repository, error) {
	return get[Repository](tx, "read repository "+name,
		`SELECT `+repositoryColumns+` FROM repositories WHERE name = $1`, name)
}

// Repositories returns up to limit repositories after the name after, by name. It leaves out
// repositories with a lock in hidden.
func (tx *Tx) Repositories(after string, limit int, hidden Locks) ([]Repository, error) {
	return list[Repository](tx, "list repositories", `SELECT `+repositoryColumns+` FROM repositories
		WHERE name > $1 AND locks & $3 = 0 ORDER BY name LIMIT $2`, after, limit, uint8(hidden))
}

// TouchRepository records a write to the repository name, and creates the repository if it does
// not exist, with the locks of the parent's listing, if that has any.
func (tx *Tx) TouchRepository(name string, now time.Time) error {
	return tx.do("write repository "+name, `INSERT INTO repositories (name, created_at, updated_at, locks)
		VALUES ($1, $2, $2, `+inheritedLocks("$1", "''", "0")+`)
		ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at`, name, millis(now))
}

// SetRepositoryLocks replaces the locks of a repository.
func (tx *Tx) SetRepositoryLocks(name string, locks Locks) error {
	tx.Changed(RepositoryTopic, name)
	return tx.one("lock repository "+name, `UPDATE repositories SET locks = $2 WHERE name = $1`, name, uint8(locks))
}

// DeleteRepository deletes a repository and all its rows. Of its blobs only the links are
// deleted.
func (tx *Tx) DeleteRepository(name string) error {
	tx.Changed(RepositoryTopic, name)
	for _, table := range []string{"tags", "tombstones", "manifest_children", "manifests", "repository_blobs",
		"uploads"} {
		if err := tx.do("delete repository "+name, `DELETE FROM `+table+` WHERE repository = $1`, name); err != nil {
			return err
		}
	}
	return tx.one("delete repository "+name, `DELETE FROM repositories WHERE name = $1`, name)
}

// CountContent returns the numbers of manifests and tags of a repository.
func (tx *Tx) CountContent(name string) (manifests, tags int, err error) {
	err = tx.statements.QueryRowContext(tx.ctx, `SELECT (SELECT COUNT(*) FROM manifests WHERE repository = $1),
		(SELECT COUNT(*) FROM tags WHERE repository = $1)`, name).Scan(&manifests, &tags)
	return manifests, tags, wrap(tx.note(err), "count content of "+name)
}

// HasManifests reports whether the repository name has any manifest.
func (tx *Tx) HasManifests(name string) (bool, error) {
	return get[bool](tx, "look for manifests of "+name,
		`SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = $1)`, name)
}

// LockedContent returns a tag or a manifest of the repository name that has one of the locks;
// "" is none.
func (tx *Tx) LockedContent(name string, locks Locks) (string, error) {
	return get[string](tx, "read locks of "+name,
		`SELECT COALESCE((SELECT name FROM tags WHERE repository = $1 AND locks & $2 <> 0 LIMIT 1),
		(SELECT digest FROM manifests WHERE repository = $1 AND locks & $2 <> 0 LIMIT 1), '')`, name, uint8(locks))
}
