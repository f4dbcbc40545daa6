package metadb_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// tooLong is longer than any limit in these tests, and shorter than that of the test.
const tooLong = time.Minute

// A watchedLog keeps the lines of a log.
type watchedLog struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next line
}

func newWatchedLog() *watchedLog { return &watchedLog{changed: make(chan struct{})} }

func (l *watchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

func (l *watchedLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// await waits until the log has as many lines as parts, each with its part.
func (l *watchedLog) await(t *testing.T, parts ...string) {
	t.Helper()
	for limit := time.After(tooLong); ; {
		l.mu.Lock()
		lines, changed := strings.Split(strings.TrimSpace(l.text.String()), "\n"), l.changed
		l.mu.Unlock()
		if lines[0] != "" && len(lines) >= len(parts) {
			for i, line := range lines {
				if i >= len(parts) || !strings.Contains(line, parts[i]) {
					t.Fatalf("log:\n%s\nwant %q", strings.Join(lines, "\n"), parts)
				}
			}
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("log:\n%s\nwant %q", strings.Join(lines, "\n"), parts)
		}
	}
}

const (
	outageLine  = "the database does not answer"
	returnLine  = "the database answers again"
	crowdedLine = "the database accepts no more connections"
)

// openWith opens a database at url, and closes it when the test ends.
func openWith(t *testing.T, o metadb.Options) *metadb.DB {
	t.Helper()
	db, err := metadb.OpenWith(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// useTogether runs transactions at once, two thirds of which read and the others write, and calls check with
// the result of each. wait returns at their end.
func useTogether(t *testing.T, db *metadb.DB, transactions int, check func(error)) (wait func()) {
	var all sync.WaitGroup
	for i := range transactions {
		all.Go(func() {
			work := readSetting
			if i%3 == 0 {
				work = writeSetting
			}
			check(work(t, db))
		})
	}
	return all.Wait
}

func readSetting(t *testing.T, db *metadb.DB) error {
	_, err := metadb.Read(t.Context(), db, func(tx *metadb.Tx) (string, error) { return tx.Setting("x") })
	return err
}

func writeSetting(t *testing.T, db *metadb.DB) error {
	return db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.SetSetting("x", "y") })
}

// awaitWaiting waits until updates wait for the writers' lock, and returns how many.
func awaitWaiting(t *testing.T, db *metadb.DB, least int) int {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < tooLong; {
		n := 0
		view(t, db, func(tx *metadb.Tx) (err error) {
			n, err = tx.CountWaiting()
			return err
		})
		if n >= least {
			return n
		}
	}
	t.Fatalf("no %d updates wait", least)
	return 0
}

func TestReadsDoNotWaitForWaitingWriters(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	db := openWith(t, metadb.Options{URL: url, Writers: 3, Timeout: tooLong})
	unlock := dbtest.LockWriters(t, url)
	var writers sync.WaitGroup
	for range 40 {
		writers.Go(func() {
			if err := writeSetting(t, db); err != nil {
				t.Error(err)
			}
		})
	}
	if n := awaitWaiting(t, db, 3); n != 3 { // which also reads
		t.Errorf("%d connections wait for the lock, want 3", n)
	}
	unlock()
	writers.Wait()
}

func TestUpdatesWaitForOthersForALimitedTime(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	log := newWatchedLog()
	db := openWith(t, metadb.Options{URL: url, Timeout: 200 * time.Millisecond, Log: log.logger()})
	unlock := dbtest.LockWriters(t, url)
	for range 3 { // the others wait in the process
		if err := writeSetting(t, db); !errors.Is(err, metadb.ErrUnavailable) || errors.Is(err, metadb.ErrUncertain) {
			t.Errorf("update = %v, want %v", err, metadb.ErrUnavailable)
		}
	}
	if err := readSetting(t, db); err != nil {
		t.Error(err)
	}
	unlock()
	if err := writeSetting(t, db); err != nil {
		t.Error(err)
	}
	if log.text.Len() > 0 { // the server answered
		t.Errorf("log: %s", log.text.String())
	}
}

func TestTerminatedConnectionsAreNotSeen(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	log := newWatchedLog()
	db := openWith(t, metadb.Options{URL: url, Log: log.logger()})
	for range 3 {
		wait := useTogether(t, db, 60, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		s.TerminateAll(t)
		wait()
	}
	if log.text.Len() > 0 {
		t.Errorf("log: %s", log.text.String())
	}
}

func TestTerminatedTransactionRunsAgain(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	db := openWith(t, metadb.Options{URL: s.Create(t, "ferry")})
	for name, run := range map[string]func(context.Context, func(*metadb.Tx) error) error{
		"view": db.View, "update": db.Update,
	} {
		tries := 0
		err := run(t.Context(), func(tx *metadb.Tx) error {
			if tries++; tries == 1 {
				s.TerminateAll(t)
			}
			_, err := tx.Setting("x")
			return err
		})
		if err != nil || tries != 2 {
			t.Errorf("%s ran %d times, and returned %v", name, tries, err)
		}
	}
}

func TestStoppedServerIsAnOutageWithTwoLogLines(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	log := newWatchedLog()
	db := openWith(t, metadb.Options{URL: s.Create(t, "ferry"), Log: log.logger()})
	s.Stop(t)
	useTogether(t, db, 30, func(err error) {
		if !errors.Is(err, metadb.ErrUnavailable) || errors.Is(err, metadb.ErrUncertain) {
			t.Errorf("= %v, want %v", err, metadb.ErrUnavailable)
		}
	})()
	begun := time.Now()
	if err := readSetting(t, db); !errors.Is(err, metadb.ErrUnavailable) {
		t.Errorf("read = %v, want %v", err, metadb.ErrUnavailable)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("a read in a known outage took %v", took)
	}
	log.await(t, outageLine)
	s.Start(t)
	log.await(t, outageLine, returnLine)
	for range 40 {
		if err := errors.Join(readSetting(t, db), writeSetting(t, db)); err != nil {
			t.Error(err)
		}
	}
	log.await(t, outageLine, returnLine)
}

func TestTransactionsWaitForAShortOutage(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	db := openWith(t, metadb.Options{URL: s.Create(t, "ferry")})
	s.Stall(t)
	read := make(chan error, 1)
	go func() { read <- readSetting(t, db) }()
	s.Resume(t)
	if err := <-read; err != nil {
		t.Error(err)
	}
}

func TestStalledServerHangsNothing(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	log := newWatchedLog()
	db := openWith(t, metadb.Options{URL: s.Create(t, "ferry"), Log: log.logger(), Timeout: time.Second})
	if err := readSetting(t, db); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	underWay := make(chan error, 1)
	stalled := make(chan struct{})
	go func() {
		underWay <- db.Update(t.Context(), func(tx *metadb.Tx) error {
			close(begun)
			<-stalled
			return tx.SetSetting("x", "y")
		})
	}()
	<-begun
	s.Stall(t)
	close(stalled)
	useTogether(t, db, 40, func(err error) {
		if !errors.Is(err, metadb.ErrUnavailable) {
			t.Errorf("= %v, want %v", err, metadb.ErrUnavailable)
		}
	})() // or the test hangs
	if err := <-underWay; !errors.Is(err, metadb.ErrUnavailable) {
		t.Errorf("transaction under way = %v, want %v", err, metadb.ErrUnavailable)
	}
	log.await(t, outageLine)
	s.Resume(t)
	log.await(t, outageLine, returnLine)
	if err := errors.Join(readSetting(t, db), writeSetting(t, db)); err != nil {
		t.Error(err)
	}
}

func TestConnectionsThatAreOpenServeAllRequests(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t, "max_connections=8", "superuser_reserved_connections=0", "autovacuum=off",
		"max_wal_senders=0")
	url := s.Create(t, "ferry")
	log := newWatchedLog()
	// Pools that fit the server leave a connection for the probe.
	db := openWith(t, metadb.Options{URL: url, Readers: 3, Writers: 2, Log: log.logger()})
	if err := errors.Join(readSetting(t, db), writeSetting(t, db)); err != nil {
		t.Fatal(err)
	}
	end := dbtest.TakeConnections(t, url)
	useTogether(t, db, 50, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})()
	log.await(t, "fewer connections", crowdedLine)
	end()
	log.await(t, "fewer connections", crowdedLine, "the database accepts connections again")
}

// A cutter passes connections on to a server, and cuts one in its commit, or passes no more byte.
type cutter struct {
	net.Listener
	server string

	mu      sync.Mutex
	mode    string
	clients []net.Conn
	silent  map[net.Conn]bool // pass nothing
}

// silence makes the connections that exist pass no more byte, in either direction, and stay open.
func (c *cutter) silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = map[net.Conn]bool{}
	for _, client := range c.clients {
		c.silent[client] = true
	}
}

func (c *cutter) isSilent(client net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.silent[client]
}

// An audible passes what its client may send or get.
type audible struct {
	net.Conn
	cutter *cutter
}

func (a audible) Write(p []byte) (int, error) {
	if a.cutter.isSilent(a.Conn) {
		return len(p), nil
	}
	return a.Conn.Write(p)
}

// newCutter listens, and returns the URL that leads through it.
func newCutter(t *testing.T, url string) (*cutter, string) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(url, "host=")
	server, rest, _ := strings.Cut(rest, "&")
	c := &cutter{Listener: l, server: filepath.Join(server, ".s.PGSQL.5432")}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go c.pass(client)
		}
	}()
	return c, before + "host=" + dir + "&" + rest
}

func (c *cutter) take(modes ...string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range modes {
		if c.mode == m {
			c.mode = ""
			return m
		}
	}
	return ""
}

func (c *cutter) set(mode string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = mode
}

// cutAll cuts all connections and accepts no more.
func (c *cutter) cutAll() {
	c.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		client.Close()
	}
}

func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	c.mu.Lock()
	c.clients = append(c.clients, client)
	c.mu.Unlock()
	server, err := net.Dial("unix", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer client.Close()
		io.Copy(audible{client, c}, server)
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		mode := ""
		if bytes.Contains(buf[:n], []byte("commit\x00")) {
			mode = c.take("before", "after", "forever")
		}
		switch mode {
		case "before":
			return
		case "after", "forever":
			client.Close() // the answer is lost
			if mode == "forever" {
				c.cutAll()
			}
		}
		if c.isSilent(client) {
			continue
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
		if mode != "" {
			server.(*net.UnixConn).CloseWrite()
			io.Copy(io.Discard, server)
			return
		}
	}
}

func TestLostAnswerOfACommitIsFoundOut(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	for mode, want := range map[string]int{"before": 2, "after": 1} {
		t.Run(mode, func(t *testing.T) {
			url := s.Create(t, mode)
			cut, through := newCutter(t, url)
			db := openWith(t, metadb.Options{URL: through})
			tries, committed := 0, 0
			cut.set(mode)
			err := db.Update(t.Context(), func(tx *metadb.Tx) error {
				tries++
				tx.AfterCommit(func() { committed++ })
				_, err := tx.Next("x")
				return err
			})
			if err != nil || tries != want || committed != 1 {
				t.Errorf("it ran %d times, was committed %d times, and returned %v; want %d", tries, committed, err,
					want)
			}
			err = db.Update(t.Context(), func(tx *metadb.Tx) error {
				if n, err := tx.Next("x"); n != 2 {
					t.Errorf("the counter is at %d, %v; want 2", n, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A firewall that forgets connections, or a machine that is gone, leaves connections that are silent.
func TestSilentConnectionsAreReplacedInABoundedTime(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	cut, through := newCutter(t, url)
	db := openWith(t, metadb.Options{URL: through, Timeout: time.Second, Readers: 2, Writers: 1})
	db.Share()
	f, err := db.Follow(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	mustCatchUp(t, f)
	if err := errors.Join(readSetting(t, db), writeSetting(t, db)); err != nil {
		t.Fatal(err)
	}
	cut.silence()
	var all sync.WaitGroup
	for name, use := range map[string]func() error{
		"read":     func() error { return readSetting(t, db) },
		"write":    func() error { return writeSetting(t, db) },
		"catch up": func() error { return f.CatchUp(t.Context()) },
	} {
		all.Go(func() {
			for begun := time.Now(); use() != nil; {
				if time.Since(begun) > tooLong {
					t.Errorf("%s fails for %v", name, tooLong)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestCommitWithoutAnAnswerIsUncertain(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	cut, through := newCutter(t, s.Create(t, "ferry"))
	db := openWith(t, metadb.Options{URL: through})
	cut.set("forever")
	err := writeSetting(t, db)
	if !errors.Is(err, metadb.ErrUnavailable) || !errors.Is(err, metadb.ErrUncertain) {
		t.Errorf("update = %v, want %v", err, metadb.ErrUncertain)
	}
}

// After a crash, PostgreSQL gives the ids of transactions again of which it had written nothing.
func TestLostCommitIsNotTakenForAnothers(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(*testing.T, *dbtest.Server){
		"server":     func(t *testing.T, s *dbtest.Server) { s.Kill(t); s.Start(t) },
		"connection": func(t *testing.T, s *dbtest.Server) { s.KillBackend(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loseCommit(t, crash)
		})
	}
}

// loseCommit runs an update in which the server crashes, and checks what is said of it.
func loseCommit(t *testing.T, crash func(*testing.T, *dbtest.Server)) {
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	db := openWith(t, metadb.Options{URL: url})
	tries := 0
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		if tries++; tries > 1 {
			return tx.SetSetting("x", "y")
		}
		err := tx.SetSetting("x", "y")
		crash(t, s)
		other, connectErr := pgx.Connect(t.Context(), url)
		if connectErr != nil {
			t.Fatal(connectErr)
		}
		defer other.Close(context.Background())
		for range 20 {
			_, err := other.Exec(t.Context(), `INSERT INTO settings (name, value) VALUES (gen_random_uuid(), '')`)
			if err != nil {
				t.Error(err)
			}
		}
		return err
	})
	value, readErr := metadb.Read(t.Context(), db, func(tx *metadb.Tx) (string, error) { return tx.Setting("x") })
	if readErr != nil {
		t.Fatal(readErr)
	}
	if err == nil && value != "y" || err != nil && !errors.Is(err, metadb.ErrUncertain) {
		t.Errorf("after %d tries, update = %v, and the setting is %q", tries, err, value)
	}
}

func TestCommitAfterAStallIsMadeKnown(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	log := newWatchedLog()
	db := openWith(t, metadb.Options{URL: s.Create(t, "ferry"), Log: log.logger(), Timeout: time.Second})
	known := make(chan struct{})
	db.OnUncertain(func() { close(known) })
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		defer s.Stall(t)
		return tx.SetSetting("x", "y")
	})
	if !errors.Is(err, metadb.ErrUncertain) {
		t.Errorf("update = %v, want %v", err, metadb.ErrUncertain)
	}
	s.Resume(t)
	<-known
	value, err := metadb.Read(t.Context(), db, func(tx *metadb.Tx) (string, error) { return tx.Setting("x") })
	if value != "y" || err != nil {
		t.Errorf("setting = %q, %v", value, err)
	}
}

func TestOpenWaitsForTheServerAndSaysSo(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	s.Stop(t)
	log := newWatchedLog()
	opened := make(chan error, 1)
	go func() {
		db, err := metadb.OpenWith(t.Context(), metadb.Options{URL: url, Log: log.logger(), Wait: tooLong})
		if err == nil {
			err = db.Close()
		}
		opened <- err
	}()
	log.await(t, "the database does not answer; trying again")
	s.Start(t)
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestOpenOfAStalledServerEnds(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := s.Create(t, "ferry")
	s.Stall(t)
	if _, err := metadb.Open(t.Context(), url); err == nil { // or it hangs
		t.Error("a stalled server was opened")
	}
}

func TestWrongLoginIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	url := strings.Replace(s.Create(t, "ferry"), "user=ferry", "user=nobody", 1)
	log := newWatchedLog()
	_, err := metadb.OpenWith(t.Context(), metadb.Options{URL: url, Log: log.logger(), Wait: time.Hour})
	if err == nil || log.text.Len() > 0 {
		t.Errorf("open = %v, log %q", err, log.text.String())
	}
}
