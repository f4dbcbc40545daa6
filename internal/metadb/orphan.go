package metadb

import (
	"fmt"
	"slices"
	"strings"
)

// An Orphan is a row of orphans: a file in the data directory that no other row knows.
type Orphan struct {
	Name  string // a blob's digest, or the name of a partial
	Since Uptime // when it was found
}

func (o *Orphan) fields() []any { return []any{&o.Name, &o.Since} }

// PutOrphan records an orphan. If it has a row, the row is kept.
func (tx *Tx) PutOrphan(o Orphan) error {
	return tx.do("write orphan "+o.Name, `INSERT INTO orphans (name, since) VALUES ($1, $2)
		ON CONFLICT (name) DO NOTHING`, o.Name, o.Since)
}

// IsOrphan reports whether the file name is recorded as an orphan.
func (tx *Tx) IsOrphan(name string) (bool, error) {
	return get[bool](tx, "read orphan "+name, `SELECT EXISTS (SELECT 1 FROM orphans WHERE name = $1)`, name)
}

// Orphans returns up to limit orphans after the name after, by name.
func (tx *Tx) Orphans(after string, limit int) ([]Orphan, error) {
	return list[Orphan](tx, "list orphans",
		`SELECT name, since FROM orphans WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// DeleteOrphans deletes the rows of orphans.
func (tx *Tx) DeleteOrphans(names ...string) error {
	for some := range slices.Chunk(names, maxValues) {
		args, places := make([]any, len(some)), make([]string, len(some))
		for i, name := range some {
			args[i], places[i] = name, fmt.Sprintf("$%d", i+1)
		}
		if err := tx.do("delete orphans", `DELETE FROM orphans WHERE name IN (`+strings.Join(places, ", ")+`)`,
			args...); err != nil {
			return err
		}
	}
	return nil
}
