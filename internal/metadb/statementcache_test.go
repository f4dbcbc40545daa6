package metadb

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"
)

// oneConnection returns the only connection of a pool, and a function that counts its kept
// statements.
func oneConnection(t *testing.T) (*sql.Conn, func() int) {
	t.Helper()
	pool := openWithStatements(&sqlite.Driver{}, "file:"+filepath.Join(t.TempDir(), "db"))
	t.Cleanup(func() { pool.Close() })
	c, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, func() (n int) {
		c.Raw(func(inner any) error { n = len(inner.(*conn).idle); return nil })
		return n
	}
}

func mustExec(t *testing.T, c *sql.Conn, query string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func numbers(t *testing.T, c *sql.Conn, query string, each func(n int)) {
	t.Helper()
	rows, err := c.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		each(n)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestStatementIsKeptAndMayBeNested(t *testing.T) {
	c, kept := oneConnection(t)
	mustExec(t, c, `CREATE TABLE t (n INTEGER)`)
	for n := range 3 {
		mustExec(t, c, `INSERT INTO t VALUES ($1)`, n)
	}
	if kept() != 2 {
		t.Errorf("%d statements are kept of 2", kept())
	}
	const query = `SELECT n FROM t ORDER BY n`
	var pairs []string
	numbers(t, c, query, func(a int) {
		numbers(t, c, query, func(b int) { pairs = append(pairs, fmt.Sprint(a, b)) })
	})
	if got := fmt.Sprint(pairs); got != "[0 0 0 1 0 2 1 0 1 1 1 2 2 0 2 1 2 2]" {
		t.Error(got)
	}
	if kept() != 3 {
		t.Errorf("%d statements are kept of 3", kept())
	}
}

func TestKeptStatementSeesANewSchema(t *testing.T) {
	c, _ := oneConnection(t)
	mustExec(t, c, `CREATE TABLE t (n INTEGER UNIQUE)`)
	mustExec(t, c, `INSERT INTO t VALUES ($1)`, 1)
	if _, err := c.ExecContext(t.Context(), `INSERT INTO t VALUES ($1)`, 1); err == nil {
		t.Fatal("a row is there twice")
	}
	mustExec(t, c, `ALTER TABLE t ADD COLUMN more INTEGER DEFAULT 7`)
	mustExec(t, c, `DROP TABLE t`)
	mustExec(t, c, `CREATE TABLE t (n INTEGER)`)
	mustExec(t, c, `INSERT INTO t VALUES ($1)`, 1)
	mustExec(t, c, `INSERT INTO t VALUES ($1)`, 1)
}

func TestConnectionKeepsLimitedStatements(t *testing.T) {
	c, kept := oneConnection(t)
	for n := range maxStatements + 50 {
		numbers(t, c, fmt.Sprint(`SELECT `, n), func(got int) {
			if got != n {
				t.Errorf("got %d, want %d", got, n)
			}
		})
	}
	numbers(t, c, `SELECT 1`+strings.Repeat(`+1`, maxText/4), func(int) {})
	if kept() != maxStatements {
		t.Errorf("%d statements are kept, want %d", kept(), maxStatements)
	}
}
