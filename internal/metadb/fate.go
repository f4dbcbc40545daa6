package metadb

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// A txID is the id of a transaction and the run of the server that gave it.
type txID struct{ id, run string }

// serverRun is another text after each start of the server and, because a crash resets its statistics, after
// each crash of one of its processes. Then the server gives the ids of transactions again of which it had
// written nothing.
const serverRun = `pg_postmaster_start_time()::text || ' ' ||
	COALESCE((SELECT stats_reset FROM pg_stat_bgwriter)::text, '')`

// runKey is where a connection keeps the run of its server, which ends all connections with it.
const runKey = "ferry server run"

// readServerRun keeps the run of the server with a new connection.
func readServerRun(ctx context.Context, c *pgx.Conn) error {
	var run string
	if err := c.QueryRow(ctx, `SELECT `+serverRun).Scan(&run); err != nil {
		return err
	}
	c.PgConn().CustomData()[runKey] = run
	return nil
}

// serverRunOf returns the run of the server of a connection; "" if it was not read.
func serverRunOf(conn *sql.Conn) (run string) {
	_ = conn.Raw(func(c any) error { // the next statement says what is wrong with it
		if c, ok := c.(*stdlib.Conn); ok {
			run, _ = c.Conn().PgConn().CustomData()[runKey].(string)
		}
		return nil
	})
	return run
}

// A fate is what became of a transaction, in the words of PostgreSQL.
type fate string

const (
	committed fate = "committed"
	aborted   fate = "aborted"
	forgotten fate = "" // it was too long ago, or in an earlier run of the server
	undecided fate = "in progress"
)

// fateOf returns what became of a transaction. It waits a while until that is decided.
func (db *DB) fateOf(ctx context.Context, id txID) fate {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var f fate
		err := db.read.QueryRowContext(ctx, `SELECT CASE WHEN status = 'committed' AND $2 <> `+serverRun+`
			THEN '' ELSE COALESCE(status, '') END FROM pg_xact_status($1::text::xid8) AS status`,
			id.id, id.run).Scan(&f)
		if err == nil && f != undecided {
			return f
		}
		select { // its process may still be ending
		case <-time.After(retryFirst):
		case <-ctx.Done():
			return undecided
		}
	}
}
