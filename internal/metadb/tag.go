package metadb

import (
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Tag is a row of tags: a name for a manifest in a repository.
type Tag struct {
	Repository string
	Name       string
	Digest     digest.Digest
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Locks      Locks
	Seq        int64 // sequence number of the change that set it
}

const tagColumns = `repository, name, digest, created_at, updated_at, locks, seq`

func (t *Tag) fields() []any {
	return []any{&t.Repository, &t.Name, (*string)(&t.Digest), at(&t.CreatedAt), at(&t.UpdatedAt), &t.Locks, &t.Seq}
}

// Tag returns the tag name of repository.
func (tx *Tx) Tag(repository, name string) (Tag, error) {
	return get[Tag](tx, "read tag "+repository+":"+name,
		`SELECT `+tagColumns+` FROM tags WHERE repository = $1 AND name = $2`, repository, name)
}

// A TagOrder selects and orders the tags of a repository. The zero value is all tags by name.
type TagOrder struct {
	Digest digest.Digest // only tags that name it; "" is all
	ByTime bool          // by the time of their last move, then by name; else by name
	Newest bool          // with ByTime, the newest first
	After  Tag           // the last tag of the page before; zero is the first page
}

// Tags returns up to limit tags of repository after o.After in the order o. It leaves out tags
// with a lock in hidden.
func (tx *Tx) Tags(repository string, o TagOrder, limit int, hidden Locks) ([]Tag, error) {
	query := `SELECT ` + tagColumns + ` FROM tags WHERE repository = $1 AND locks & $2 = 0 AND ($3 = '' OR digest = $3)`
	args := []any{repository, uint8(hidden), string(o.Digest), limit}
	after, sign, order := o.After.Name != "", ">", ""
	if o.ByTime && o.Newest {
		sign, order = "<", " DESC"
	}
	switch {
	case after && o.ByTime:
		query += ` AND (updated_at, name) ` + sign + ` ($5, $6)`
		args = append(args, millis(o.After.UpdatedAt), o.After.Name)
	case after:
		query += ` AND name > $5`
		args = append(args, o.After.Name)
	}
	if o.ByTime {
		query += ` ORDER BY updated_at` + order + `, name` + order
	} else {
		query += ` ORDER BY name`
	}
	return list[Tag](tx, "list tags of "+repository, query+` LIMIT $4`, args...)
}

// TagNames returns up to limit names of tags of repository after the name after, in order. It
// leaves out tags with a lock in hidden. The query returns all names in one row, which takes a
// third of the time of a row for each.
func (tx *Tx) TagNames(repository, after string, limit int, hidden Locks) ([]string, error) {
	const separator = "," // which no name contains
	names, err := get[string](tx, "list tags of "+repository,
		`SELECT COALESCE(string_agg(name, '`+separator+`'), '') FROM (
		SELECT name FROM tags WHERE repository = $1 AND name > $2 AND locks & $3 = 0 ORDER BY name LIMIT $4) AS page`,
		repository, after, uint8(hidden), limit)
	if err != nil || names == "" {
		return nil, err
	}
	all := strings.Split(names, separator)
	slices.Sort(all) // string_agg guarantees no order
	return all, nil
}

// TagsOf returns the tags of repository that name digest, by name.
func (tx *Tx) TagsOf(repository, digest string) ([]Tag, error) {
	// Sorted here, because SQLite would read all tags of the repository to sort them.
	all, err := list[Tag](tx, "list tags of "+repository+"@"+digest,
		`SELECT `+tagColumns+` FROM tags WHERE repository = $1 AND digest = $2`, repository, digest)
	slices.SortFunc(all, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// SetTag makes the tag name digest, in the change with the sequence number seq. The caller
// marks the manifest as referenced. The tag gets the locks of the parent's listing, if that has any.
func (tx *Tx) SetTag(repository, name, digest string, seq int64, now time.Time) error {
	tx.Changed(RepositoryTopic, repository)
	return tx.do("set tag "+repository+":"+name,
		`INSERT INTO tags (repository, name, digest, created_at, updated_at, seq, locks)
		VALUES ($1, $2, $3, $4, $4, $5, `+inheritedLocks("$1", "$2", "0")+`)
		ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at,
		seq = excluded.seq, locks = `+inheritedLocks("$1", "$2", "tags.locks"),
		repository, name, digest, millis(now), seq)
}

// SetTagLocks replaces the locks of a tag, in the change with the sequence number seq.
func (tx *Tx) SetTagLocks(repository, name string, locks Locks, seq int64) error {
	tx.Changed(RepositoryTopic, repository)
	return tx.one("lock tag "+repository+":"+name, `UPDATE tags SET locks = $3, seq = $4
		WHERE repository = $1 AND name = $2`, repository, name, uint8(locks), seq)
}

// DeleteTag deletes a tag. The manifest stays.
func (tx *Tx) DeleteTag(repository, name string) error {
	tx.Changed(RepositoryTopic, repository)
	return tx.one("delete tag "+repository+":"+name,
		`DELETE FROM tags WHERE repository = $1 AND name = $2`, repository, name)
}
