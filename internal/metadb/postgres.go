package metadb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Defaults of [Options].
const (
	DefaultReaders = 16
	DefaultWriters = 2
	DefaultTimeout = 10 * time.Second
)

const (
	// connectTimeout is how long PostgreSQL may take to accept a connection.
	connectTimeout = 5 * time.Second
	// longTimeout is the limit on a statement of [DB.Long].
	longTimeout = 10 * time.Minute
	// longConnections are the connections of [DB.Long].
	longConnections = 2
	// maxIdle is how long a connection is kept that is not used. Others may need it.
	maxIdle = time.Minute
	// moreConnections are those for locks, for changes of other processes, and for a probe.
	moreConnections = 5
	// clientDelay is added on this side to the server's limit on a statement, so that it is the server
	// that ends a slow statement, and the connection stays usable.
	clientDelay = time.Second
	// waits is how many times as long as a statement an update may wait for others.
	waits = 3
)

// How soon each side finds that the other has gone without a word. Until then, the server keeps the
// locks of a lost connection.
const (
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
	unacknowledged    = keepAliveIdle + keepAliveCount*keepAliveInterval
	// idleTransaction is how long a transaction may send nothing, such as that of a process that is
	// stopped, before the server ends it.
	idleTransaction = time.Minute
)

// connectPostgres opens the pools, and connects once.
func (db *DB) connectPostgres(ctx context.Context, o Options) error {
	config, err := pgx.ParseConfig(db.dialect.dsn)
	if err != nil {
		return err
	}
	db.timeout = cmp.Or(o.Timeout, DefaultTimeout)
	db.writers = newQueue(cmp.Or(o.Writers, DefaultWriters), waits*db.timeout)
	probe := sessionOf(config, probeTimeout)
	db.outage = newOutage(cmp.Or(o.Log, slog.New(slog.DiscardHandler)), func(ctx context.Context) error {
		c, err := pgx.ConnectConfig(ctx, probe)
		if err != nil {
			return err
		}
		return errors.Join(c.Ping(ctx), c.Close(ctx))
	})
	session := sessionOf(config, db.timeout)
	db.read = db.pool(session, cmp.Or(o.Readers, DefaultReaders))
	db.write = db.pool(session, cmp.Or(o.Writers, DefaultWriters), stdlib.OptionAfterConnect(readServerRun))
	long := db.pool(sessionOf(config, longTimeout), longConnections, stdlib.OptionAfterConnect(readServerRun))
	db.long = &DB{
		dialect: db.dialect, read: long, write: long, timeout: longTimeout, writers: db.writers, outage: db.outage,
	}
	if err := connectWithin(ctx, o, db.read.PingContext); err != nil {
		return err
	}
	return db.checkSizes(ctx, cmp.Or(o.Readers, DefaultReaders)+cmp.Or(o.Writers, DefaultWriters))
}

// checkSizes writes a line to the log if the server accepts fewer connections than this process may open.
func (db *DB) checkSizes(ctx context.Context, pools int) error {
	need := pools + longConnections + moreConnections
	most, err := Read(ctx, db, func(tx *Tx) (int, error) {
		return get[int](tx, "read the largest number of connections", `SELECT
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int`)
	})
	if err == nil && most < need {
		db.outage.log.Warn("the database accepts fewer connections than this process may open", "accepts", most,
			"mayOpen", need, "hint", hintCrowded)
	}
	return err
}

// connectWithin calls connect until it succeeds, for as long as the options say.
func connectWithin(ctx context.Context, o Options, connect func(context.Context) error) error {
	limit, said := time.Now().Add(o.Wait), false
	for pause := probeFirst; ; pause = min(2*pause, probeLast) {
		once, cancel := context.WithTimeout(ctx, connectTimeout)
		err := connect(once)
		cancel()
		if err == nil || ctx.Err() != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		if troubleOf(err) == noTrouble || isFinal(err) || !time.Now().Before(limit) {
			return err
		}
		if !said && o.Log != nil {
			said = true
			o.Log.Warn("the database does not answer; trying again", "for", o.Wait, "err", firstLine(err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isFinal reports whether a server refuses connections until a person changes something.
func isFinal(err error) bool {
	p, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(p.Code, "28") || p.Code == "3D000") // invalid_authorization, invalid_catalog_name
}

// sessionOf returns the settings of sessions whose statements end after limit. Settings in the
// database's URL hold.
func sessionOf(config *pgx.ConnConfig, limit time.Duration) *pgx.ConnConfig {
	c := config.Copy()
	millis := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
	for name, value := range map[string]string{
		"application_name":                    "ferry",
		"statement_timeout":                   millis(limit),
		"idle_in_transaction_session_timeout": millis(max(limit, idleTransaction)),
		"tcp_keepalives_idle":                 seconds(keepAliveIdle),
		"tcp_keepalives_interval":             seconds(keepAliveInterval),
		"tcp_keepalives_count":                strconv.Itoa(keepAliveCount),
		"tcp_user_timeout":                    millis(unacknowledged),
	} {
		if _, given := c.RuntimeParams[name]; !given {
			c.RuntimeParams[name] = value
		}
	}
	if c.ConnectTimeout == 0 || c.ConnectTimeout > connectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	c.DialFunc = dial(limit + clientDelay)
	return c
}

// pool returns a pool of up to size connections, which is empty at first. After a connection was lost,
// each of the others is tried before its next use.
func (db *DB) pool(config *pgx.ConnConfig, size int, options ...stdlib.OptionOpenDB) *sql.DB {
	p := stdlib.OpenDB(*config, append(options, stdlib.OptionShouldPing(
		func(_ context.Context, idle stdlib.ShouldPingParams) bool {
			return idle.IdleDuration > time.Second ||
				time.Now().Add(-idle.IdleDuration).UnixNano() < db.outage.lostAt.Load()
		}))...)
	p.SetMaxOpenConns(size)
	p.SetMaxIdleConns(size)
	p.SetConnMaxIdleTime(maxIdle)
	return p
}

// Long returns the database for statements that may take minutes, such as those that read everything.
// Others do not wait for them. On SQLite it is the database itself.
func (db *DB) Long() *DB {
	if db.long == nil {
		return db
	}
	return db.long
}

// firstLine shortens an error that lists several attempts, one a line, to the first.
func firstLine(err error) error {
	first, rest, several := strings.Cut(err.Error(), "\n")
	if !several {
		return err
	}
	second, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	return fmt.Errorf("%s %s", first, second)
}
