package metadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// Limits on the prepared statements that a connection keeps. They are enough for most queries
// of this package. Long texts contain lists of values, which rarely have the same length.
const (
	maxStatements = 128
	maxText       = 2000 // bytes
)

// openWithStatements is [sql.Open] for SQLite's driver with connections that keep their
// prepared statements. The driver alone prepares a statement each time.
func openWithStatements(d driver.Driver, dsn string) *sql.DB {
	return sql.OpenDB(connector{d, dsn})
}

type connector struct {
	driver driver.Driver
	dsn    string
}

// Driver implements [driver.Connector].
func (c connector) Driver() driver.Driver { return c.driver }

// Connect implements [driver.Connector].
func (c connector) Connect(context.Context) (driver.Conn, error) {
	inner, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &conn{inner.(fullConn), map[string]statement{}}, nil
}

// A fullConn has all optional interfaces of a connection that database/sql uses.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// A conn keeps its prepared statements, apart from those that are running. Like every
// connection, it is used by one goroutine at a time. The end of a context does not interrupt a
// running statement, because the driver would start a goroutine for each statement, and the
// statements of this package are short. It prevents the next statement.
type conn struct {
	fullConn
	idle map[string]statement
}

// Close implements [driver.Conn].
func (c *conn) Close() error {
	for _, s := range c.idle {
		s.Close()
	}
	return c.fullConn.Close()
}

// ExecContext implements [driver.ExecerContext].
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	defer c.put(query, s)
	return s.ExecContext(context.WithoutCancel(ctx), args)
}

// QueryContext implements [driver.QueryerContext].
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	found, err := s.QueryContext(context.WithoutCancel(ctx), args)
	if err != nil {
		s.Close()
		return nil, err
	}
	return rows{found, func() { c.put(query, s) }}, nil
}

// take returns a statement that is not running.
func (c *conn) take(ctx context.Context, query string) (statement, error) {
	if s, ok := c.idle[query]; ok {
		delete(c.idle, query)
		return s, nil
	}
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.(statement), nil
}

// put keeps a statement that has run, and closes another one if there are too many.
func (c *conn) put(query string, s statement) {
	if _, twice := c.idle[query]; twice || len(query) > maxText {
		s.Close()
		return
	}
	if len(c.idle) == maxStatements {
		for text, other := range c.idle {
			delete(c.idle, text)
			other.Close()
			break
		}
	}
	c.idle[query] = s
}

// rows return their statement to the connection when they are closed.
type rows struct {
	driver.Rows
	closed func()
}

// Close implements [driver.Rows].
func (r rows) Close() error {
	err := r.Rows.Close()
	r.closed()
	return err
}
