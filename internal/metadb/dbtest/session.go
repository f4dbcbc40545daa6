package dbtest

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Session connects to the database at url and runs a statement, such as one that takes a lock. end
// closes the connection.
func Session(t testing.TB, url, statement string) (end func()) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() { c.Close(context.Background()) })
	t.Cleanup(end)
	if _, err := c.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
	return end
}

// TerminateAll ends all connections to the server, as pg_terminate_backend does.
func (s *Server) TerminateAll(t testing.TB) {
	t.Helper()
	Session(t, s.URL("postgres"), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
		WHERE datname IS NOT NULL AND pid <> pg_backend_pid()`)()
}

// LockWriters keeps all updates of the database at url waiting until unlock is called.
func LockWriters(t testing.TB, url string) (unlock func()) {
	t.Helper()
	return Session(t, url, `SELECT pg_advisory_lock(7162353)`)
}

// TakeConnections connects to the database at url until the server accepts no more connections. end
// closes them.
func TakeConnections(t testing.TB, url string) (end func()) {
	t.Helper()
	var all []*pgx.Conn
	end = sync.OnceFunc(func() {
		for _, c := range all {
			c.Close(context.Background())
		}
	})
	t.Cleanup(end)
	for {
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return end
		}
		all = append(all, c)
	}
}
