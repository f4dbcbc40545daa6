package metadb_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// newSession returns a session that notices its end quickly.
func newSession(t *testing.T, db *metadb.DB) *metadb.Session {
	t.Helper()
	s := db.NewSession()
	s.SetCheck(10 * time.Millisecond)
	t.Cleanup(func() { s.Close() })
	return s
}

// mustLock returns the result of one of a session's functions that lock.
func mustLock(t *testing.T, lock func(context.Context, string) (*metadb.Lock, error), key string) *metadb.Lock {
	t.Helper()
	l, err := lock(t.Context(), key)
	if err != nil || l == nil {
		t.Fatalf("lock %s: %v, %v", key, l, err)
	}
	return l
}

func mustBeTaken(t *testing.T, lock func(context.Context, string) (*metadb.Lock, error), key string) {
	t.Helper()
	if l, err := lock(t.Context(), key); err != nil || l != nil {
		t.Errorf("lock %s, which is taken: %v, %v", key, l, err)
	}
}

// terminate ends a session on the server's side.
func terminate(t *testing.T, db *metadb.DB, s *metadb.Session) {
	t.Helper()
	if err := db.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, int64(s.Backend())); err != nil {
		t.Fatal(err)
	}
}

func TestOneHasALockOrSeveralShareIt(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		a := newSession(t, db)
		l := mustLock(t, a.TryLock, "k")
		mustBeTaken(t, a.TryLock, "k")
		mustBeTaken(t, a.TryShare, "k")
		mustLock(t, a.TryLock, "other").Release()
		l.Release()
		l.Release()
		one, two := mustLock(t, a.TryShare, "k"), mustLock(t, a.Share, "k")
		mustBeTaken(t, a.TryLock, "k")
		one.Release()
		mustBeTaken(t, a.TryLock, "k")
		two.Release()
		mustLock(t, a.Lock, "k").Release()
	})
}

func TestLockExcludesOtherProcesses(t *testing.T) {
	db := dbtest.Postgres(t)
	a, b := newSession(t, db), newSession(t, db)
	l := mustLock(t, a.Lock, "k")
	mustBeTaken(t, b.TryLock, "k")
	mustBeTaken(t, b.TryShare, "k")
	l.Release()
	s := mustLock(t, a.Share, "k")
	mustLock(t, b.TryShare, "k").Release()
	mustBeTaken(t, b.TryLock, "k")
	go s.Release()
	mustLock(t, b.Lock, "k").Release()
}

func TestWaitForALockEndsWithItsContext(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		a := newSession(t, db)
		defer mustLock(t, a.Lock, "k").Release()
		ctx, stop := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		stop(gone)
		if _, err := a.Lock(ctx, "k"); !errors.Is(err, gone) {
			t.Errorf("a wait whose context has ended: %v", err)
		}
	})
}

func TestLockIsLostWithItsSession(t *testing.T) {
	db := dbtest.Postgres(t)
	a, b := newSession(t, db), newSession(t, db)
	l := mustLock(t, a.Lock, "k")
	update(t, db, l.Confirm)
	terminate(t, db, a)
	<-l.Lost()
	other := mustLock(t, b.Lock, "k")
	if err := db.Update(t.Context(), l.Confirm); !errors.Is(err, metadb.ErrLockLost) {
		t.Errorf("a lost lock is confirmed: %v", err)
	}
	mustBeTaken(t, a.TryLock, "k") // on a new session
	l.Release()
	mustBeTaken(t, a.TryLock, "k")
	other.Release()
	mustLock(t, a.TryLock, "k").Release()
}

func TestLockIsFreeOnceItsProcessIsKilled(t *testing.T) {
	if url := os.Getenv("METADB_TEST_LOCK"); url != "" {
		mustLock(t, newSession(t, open(t, url)).Lock, "k")
		os.Stdout.WriteString("locked\n")
		select {} // until it is killed
	}
	url := dbtest.PostgresURL(t)
	s := newSession(t, open(t, url))
	process := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	process.Env = append(os.Environ(), "METADB_TEST_LOCK="+url)
	out, err := process.StdoutPipe()
	if err == nil {
		err = process.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("the other process says %q: %v", line, err)
	}
	mustBeTaken(t, s.TryLock, "k")
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	mustLock(t, s.Lock, "k").Release()
	process.Wait()
}

func TestAnotherProcessTakesOverFromALostLeader(t *testing.T) {
	db := dbtest.Postgres(t)
	a, b := newSession(t, db), newSession(t, db)
	leaders, ends, lost := make(chan string), make(chan error, 1), make(chan error, 1)
	lead := func(name string, s *metadb.Session) (stop func()) {
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			ends <- s.Lead(ctx, "work", func(ctx context.Context) error {
				leaders <- name
				<-ctx.Done()
				lost <- context.Cause(ctx)
				stop()
				return nil
			})
		}()
		return stop
	}
	stop := lead("a", a)
	defer stop()
	if first := <-leaders; first != "a" {
		t.Fatal("the first leader is", first)
	}
	stop = lead("b", b)
	defer stop()
	mustBeTaken(t, b.TryLock, "leader work")
	terminate(t, db, a)
	if err := <-lost; !errors.Is(err, metadb.ErrLockLost) {
		t.Errorf("the work of a lost leader ends with %v", err)
	}
	if err := <-ends; !errors.Is(err, context.Canceled) {
		t.Errorf("a leader that is stopped ends with %v", err)
	}
	if second := <-leaders; second != "b" {
		t.Error("the second leader is", second)
	}
	stop()
	if err := <-lost; !errors.Is(err, context.Canceled) {
		t.Errorf("the work of a leader that is stopped ends with %v", err)
	}
}

func TestLostLeaderWritesNothing(t *testing.T) {
	db := dbtest.Postgres(t)
	s := db.NewSession()
	t.Cleanup(func() { s.Close() })
	err := s.Lead(t.Context(), "work", func(ctx context.Context) error {
		write := func(name string) error {
			ctx := context.WithoutCancel(ctx) // as work does that must write how it ended
			return db.Update(ctx, func(tx *metadb.Tx) error { return tx.SetSetting(name, "written") })
		}
		if err := write("before"); err != nil {
			t.Errorf("the leader writes: %v", err)
		}
		terminate(t, db, s) // which this process has not noticed
		mustLock(t, newSession(t, db).Lock, "leader work")
		if err := write("after"); !errors.Is(err, metadb.ErrLockLost) {
			t.Errorf("a leader that has lost its lock writes: %v, want %v", err, metadb.ErrLockLost)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"before": "written", "after": ""} {
		got, err := metadb.Read(t.Context(), db, func(tx *metadb.Tx) (string, error) { return tx.Setting(name) })
		if err != nil && !errors.Is(err, metadb.ErrNotFound) || got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}

// A silentProxy is between a process and PostgreSQL, and can stop passing anything on, as when a machine vanishes: both
// sides keep their connections.
type silentProxy struct {
	url    string // of the database, through the proxy
	silent atomic.Bool
}

// newSilentProxy returns a proxy before the database at address.
func newSilentProxy(t *testing.T, address string) *silentProxy {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	const file = ".s.PGSQL.5432"
	q := u.Query()
	server := filepath.Join(q.Get("host"), file)
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	p := &silentProxy{url: u.String()}
	var work sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	pass := func(to, from net.Conn) {
		part := make([]byte, 64<<10)
		for {
			n, err := from.Read(part)
			if p.silent.Load() {
				<-ctx.Done()
			}
			if err == nil {
				_, err = to.Write(part[:n])
			}
			if err != nil {
				to.Close()
				return
			}
		}
	}
	work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			conn, err := net.Dial("unix", server)
			if err != nil {
				client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { client.Close(); conn.Close() })
			work.Go(func() { pass(conn, client) })
			work.Go(func() { pass(client, conn) })
		}
	})
	t.Cleanup(func() {
		stop()
		l.Close()
		work.Wait()
	})
	return p
}

func TestLeaderWhoseMachineVanishesIsReplacedWithinAMinute(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for half a minute")
	}
	address := dbtest.PostgresURL(t)
	proxy := newSilentProxy(t, address)
	type event struct {
		text string
		at   time.Time
	}
	events := make(chan event, 10)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	lead := func(name, address string) {
		db, err := metadb.OpenWith(ctx, metadb.Options{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		s := db.NewSession()
		work.Go(func() {
			defer s.Close()
			_ = s.Lead(ctx, "work", func(ctx context.Context) error {
				events <- event{name + " begins", time.Now()}
				<-ctx.Done()
				events <- event{name + " ends", time.Now()}
				return nil
			})
		})
	}
	next := func(want string) time.Time {
		t.Helper()
		select {
		case e := <-events:
			if e.text != want {
				t.Fatalf("%s, want %s", e.text, want)
			}
			return e.at
		case <-time.After(time.Minute):
			t.Fatalf("not within a minute: %s", want)
			panic("unreachable")
		}
	}
	lead("a", proxy.url)
	next("a begins")
	lead("b", address)
	proxy.silent.Store(true)
	vanished := time.Now()
	ended := next("a ends")
	begun := next("b begins")
	t.Logf("the old leader ended after %s, and the new one began after %s", ended.Sub(vanished), begun.Sub(vanished))
}

func TestLeaderReturnsWithItsWork(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		s, done := newSession(t, db), errors.New("done")
		for range 2 {
			if err := s.Lead(t.Context(), "w", func(context.Context) error { return done }); !errors.Is(err, done) {
				t.Errorf("the leader's work ends with %v", err)
			}
		}
	})
}
