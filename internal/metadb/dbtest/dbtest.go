// Package dbtest runs tests on every database that Ferry supports.
package dbtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/metadb"
)

// Run runs test once on a fresh SQLite database and once on a fresh PostgreSQL database. If
// PostgreSQL is not installed, that part is skipped, except in CI (the environment variable CI
// is set), where it fails. With -short, only SQLite is tested.
func Run(t *testing.T, test func(t *testing.T, db *metadb.DB)) {
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) {
		if testing.Short() {
			t.Skip("its SQL and its Go are those of SQLite")
		}
		test(t, Postgres(t))
	})
}

// SQLite returns a fresh database that is closed when the test ends.
func SQLite(t testing.TB) *metadb.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ferry.db")
	if err := Prepare(path); err != nil {
		t.Fatal(err)
	}
	return open(t, "sqlite:"+path)
}

// Prepare writes an empty, migrated SQLite database to path, unless the file exists. A copy
// takes a fraction of the time of the migrations, which wait for the disk.
func Prepare(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	content, err := empty()
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// empty returns the content of an empty SQLite database, which is created once.
var empty = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "ferry-db-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ferry.db")
	if err := migrate("sqlite:" + path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// migrate creates the tables of the empty database at url.
func migrate(url string) error {
	db, err := metadb.Open(context.Background(), url)
	if err != nil {
		return err
	}
	return db.Close()
}

// Postgres returns a fresh database on a server that this process starts once, on a Unix
// socket. See [Run] for machines without PostgreSQL.
func Postgres(t testing.TB) *metadb.DB {
	t.Helper()
	return open(t, create(t, func(srv server) (string, error) { return srv.template() }))
}

func open(t testing.TB, url string) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// PostgresURL creates a database without tables and returns its URL.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return create(t, func(server) (string, error) { return "template1", nil })
}

// create copies a database of the server and returns the copy's URL. from returns the name of
// the database to copy.
func create(t testing.TB, from func(server) (string, error)) string {
	t.Helper()
	bin := binaries()
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("PostgreSQL is not installed (Debian: apt-get install postgresql)")
		}
		t.Skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
	}
	srv, err := start()
	if err != nil {
		t.Fatal(err)
	}
	template, err := from(srv)
	if err != nil {
		t.Fatal(err)
	}
	name := "t" + strings.ToLower(rand.Text())
	if err := srv.create(name, template); err != nil {
		t.Fatal(err)
	}
	return srv.url(name)
}

// binaries returns the directory of the newest installed server, or "".
func binaries() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// A server is this process's own PostgreSQL.
type server struct {
	dir      string                 // of its socket and its data
	alive    io.WriteCloser         // the server runs while this is open
	admin    *pgx.Conn              // creates databases; guarded by making
	making   *sync.Mutex            // one is created at a time
	template func() (string, error) // a database with tables, created once
}

func (s server) url(name string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=ferry", name, s.dir)
}

// create creates the database name as a copy of template, which must have no connections.
func (s server) create(name, template string) error {
	s.making.Lock()
	defer s.making.Unlock()
	_, err := s.admin.Exec(context.Background(), "CREATE DATABASE "+name+" TEMPLATE "+template)
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// start starts the server, once, with its data in memory if the machine has /dev/shm. The
// server ends with the test binary.
var start = sync.OnceValues(func() (server, error) {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "ferry-pg-")
	if err != nil {
		return server{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return server{}, err
	}
	if uid, gid, ok := postgresUser(); ok {
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return server{}, err
		}
	}
	bin := binaries()
	data := filepath.Join(dir, "data")
	initdb := asPostgres(exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "ferry", "-A", "trust",
		"--no-sync", "-E", "UTF8", "--locale=C.UTF-8"))
	if out, err := initdb.CombinedOutput(); err != nil {
		return server{}, fmt.Errorf("initdb: %w: %s", err, out)
	}
	// The shell waits until the test binary's end of the pipe is closed, however that binary
	// ends. Then it stops the server and deletes its files.
	script := fmt.Sprintf(`%[1]s/postgres -D %[2]s/data -k %[2]s \
			-c listen_addresses= -c fsync=off -c max_connections=200 >%[2]s/log 2>&1 &
		read -r _; kill -INT $!; wait; rm -rf %[2]s`, bin, dir)
	cmd := asPostgres(exec.Command("/bin/sh", "-c", script))
	cmd.SysProcAttr.Setpgid = true
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return server{}, err
	}
	if err := cmd.Start(); err != nil {
		return server{}, err
	}
	ready := filepath.Join(bin, "pg_isready")
	for range 300 {
		if exec.Command(ready, "-q", "-h", dir).Run() == nil {
			return connect(dir, stdin)
		}
		time.Sleep(50 * time.Millisecond) // pg_isready cannot wait
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	return server{}, fmt.Errorf("PostgreSQL did not start: %s", log)
})

// connect returns the server that runs in dir.
func connect(dir string, alive io.WriteCloser) (server, error) {
	s := server{dir: dir, alive: alive, making: &sync.Mutex{}}
	var err error
	if s.admin, err = pgx.Connect(context.Background(), s.url("postgres")); err != nil {
		return server{}, err
	}
	s.template = sync.OnceValues(func() (string, error) {
		const name = "migrated"
		if err := s.create(name, "template1"); err != nil {
			return "", err
		}
		return name, migrate(s.url(name))
	})
	return s, nil
}

// asPostgres makes cmd run as the user postgres if this process is root, because the server
// refuses to run as root.
func asPostgres(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if uid, gid, ok := postgresUser(); ok {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	cmd.Dir = "/"
	return cmd
}

func postgresUser() (uid, gid uint32, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, false
	}
	id, _ := strconv.Atoi(u.Uid)
	group, _ := strconv.Atoi(u.Gid)
	return uint32(id), uint32(group), true
}
