package metadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/oci"
)

// ErrUnavailable is returned, wrapped, when PostgreSQL does not answer: it is stopped, stalled or out
// of connections, or the transaction waited too long for others. The transaction had no effect, unless
// the error is also [ErrUncertain]. A later try may succeed. For the HTTP APIs it is
// [oci.ErrUnavailable]: 503 with Retry-After.
var ErrUnavailable error = oci.ErrUnavailable

// ErrUncertain is returned, wrapped, together with [ErrUnavailable], if the connection was lost during
// the commit, and the database did not say in time whether it had committed. Whoever changes anything
// outside of the database must then leave both states possible, as at a crash.
var ErrUncertain = errors.New("the transaction may have been written")

// An unavailableError is an [ErrUnavailable] with its cause.
type unavailableError struct {
	cause     error
	uncertain bool
}

// Error implements error.
func (e *unavailableError) Error() string {
	if e.uncertain {
		return "the database is unavailable, and " + ErrUncertain.Error() + ": " + e.cause.Error()
	}
	return "the database is unavailable: " + e.cause.Error()
}

// Unwrap is for [errors.Is].
func (e *unavailableError) Unwrap() []error {
	if e.uncertain {
		return []error{ErrUnavailable, ErrUncertain, e.cause}
	}
	return []error{ErrUnavailable, e.cause}
}

func unavailable(cause error) error {
	if errors.Is(cause, ErrUnavailable) {
		return cause
	}
	return &unavailableError{cause: cause}
}

// A trouble is a kind of error that says nothing about the statement.
type trouble int

const (
	noTrouble trouble = iota
	// slow: the server ended the statement because it took too long. Another try would, too.
	slow
	// silent: the server did not answer.
	silent
	// waiting: others have been writing for too long.
	waiting
	// disturbed: another transaction interfered.
	disturbed
	// lost: the connection was cut. Another one may work.
	lost
	// refused: the server accepted no connection.
	refused
)

// troubleOf returns the kind of an error of PostgreSQL.
func troubleOf(err error) trouble {
	if err == nil || errors.Is(err, context.Canceled) {
		return noTrouble
	}
	if p, ok := errors.AsType[*pgconn.PgError](err); ok {
		if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
			return refused
		}
		return troubleOfCode(p)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return refused
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case ok && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return silent
	case ok, pgconn.SafeToRetry(err), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, pgconn.ErrConnClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return lost
	}
	return noTrouble
}

// troubleOfCode returns the kind of an error that the server sent.
func troubleOfCode(p *pgconn.PgError) trouble {
	switch {
	case p.Code == "40001", p.Code == "40P01": // serialisation_failure, deadlock_detected
		return disturbed
	case p.Code == "57014", p.Code == "55P03", p.Code == "53200": // query_canceled, lock_not_available, out_of_memory
		return slow
	case p.Code == "53100": // disk_full: see [IsFull]
		return noTrouble
	case strings.HasPrefix(p.Code, "57P"), strings.HasPrefix(p.Code, "08"), strings.HasPrefix(p.Code, "53"),
		p.Code == "25P03", p.Code == "25P04", p.SeverityUnlocalized == "FATAL":
		// operator_intervention, connection_exception, insufficient_resources, and timeouts of a session
		return lost
	}
	return noTrouble
}

// certainlyNotCommitted reports whether the error of a commit says that nothing was written. A broken
// connection never says so, not even where the driver calls a retry safe.
func certainlyNotCommitted(err error) bool {
	p, ok := errors.AsType[*pgconn.PgError](err)
	return ok && p.SeverityUnlocalized == "ERROR" || errors.Is(err, pgx.ErrTxCommitRollback)
}
