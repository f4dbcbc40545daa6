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

	"ferry/internal/metadb"
)

// Run runs test once on a fresh SQLite database and once on a fresh
// PostgreSQL database. Where PostgreSQL is not installed that part is
// skipped, except in CI (the environment variable CI is set), where its
// absence fails the test. It is skipped with -short, too.
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
	return open(t, "sqlite:"+filepath.Join(t.TempDir(), "ferry.db"))
}

// Postgres returns a fresh database on a server that this process starts
// once, on a Unix socket. See [Run] for where there is none.
func Postgres(t testing.TB) *metadb.DB {
	t.Helper()
	return open(t, PostgresURL(t))
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

// PostgresURL creates an empty database and returns its URL.
func PostgresURL(t testing.TB) string {
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
	dir := srv.dir
	name := "t" + strings.ToLower(rand.Text())
	out, err := asPostgres(exec.Command(filepath.Join(bin, "createdb"), "-h", dir, "-U", "ferry", name)).CombinedOutput()
	if err != nil {
		t.Fatalf("createdb: %v: %s", err, out)
	}
	return fmt.Sprintf("postgres:///%s?host=%s&user=ferry", name, dir)
}

// binaries returns the directory of the newest installed server, or "".
func binaries() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// server is the process's own PostgreSQL.
type server struct {
	dir   string         // of its socket and its data
	alive io.WriteCloser // while this is open, it runs
}

// start starts the server, once, with its data in memory where the machine
// has /dev/shm. The server ends with the test binary, whose death it sees.
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
	initdb := asPostgres(exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "ferry", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"))
	if out, err := initdb.CombinedOutput(); err != nil {
		return server{}, fmt.Errorf("initdb: %w: %s", err, out)
	}
	// The shell waits for the test binary's end of the pipe to close, however
	// that binary ends, then stops the server and removes its files.
	script := fmt.Sprintf(`%[1]s/postgres -D %[2]s/data -k %[2]s -c listen_addresses= -c fsync=off -c max_connections=200 >%[2]s/log 2>&1 &
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
			return server{dir, stdin}, nil
		}
		time.Sleep(50 * time.Millisecond) // pg_isready has no way to wait
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	return server{}, fmt.Errorf("PostgreSQL did not start: %s", log)
})

// asPostgres makes cmd run as the user postgres when this process is root,
// as which the server refuses to run.
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
