package dbtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Server is a PostgreSQL on a Unix socket, with its data in memory if the machine has
// /dev/shm. A test can kill, stop, stall and start it. It ends with the test binary, however
// that ends. It is for one goroutine at a time.
type Server struct {
	dir      string // of its socket and its data
	settings []string
	shell    *exec.Cmd      // waits for the end of the test binary
	control  io.WriteCloser // the shell ends the server when this is closed
	pid      int            // of the server
}

// NewServer starts a server of the test's own. Each setting is NAME=VALUE, as in
// postgresql.conf. See [Run] for machines without PostgreSQL.
func NewServer(t testing.TB, settings ...string) *Server {
	t.Helper()
	requirePostgres(t)
	s, err := newServer(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

// requirePostgres skips the test if PostgreSQL is not installed; in CI the test fails.
func requirePostgres(t testing.TB) {
	t.Helper()
	if binaries() != "" {
		return
	}
	const text = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
	if os.Getenv("CI") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// binaries returns the directory of the newest installed server, or "".
func binaries() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

func newServer(settings ...string) (*Server, error) {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "ferry-pg-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if uid, gid, ok := postgresUser(); ok {
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
	}
	s := &Server{dir: dir, settings: settings}
	initdb := asPostgres(exec.Command(filepath.Join(binaries(), "initdb"), "-D", s.data(), "-U", "ferry",
		"-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"))
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	return s, s.start()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// URL returns the URL of a database of the server. The database postgres always exists.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=ferry", database, s.dir)
}

// Create creates an empty database and returns its URL.
func (s *Server) Create(t testing.TB, database string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := create(conn, database, "template1"); err != nil {
		t.Fatal(err)
	}
	return s.URL(database)
}

// create creates a database as a copy of template, which must have no connections.
func create(conn *pgx.Conn, database, template string) error {
	if _, err := conn.Exec(context.Background(), "CREATE DATABASE "+database+" TEMPLATE "+template); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// Run runs a program of PostgreSQL, such as pg_dump.
func (s *Server) Run(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(filepath.Join(binaries(), program), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// Start starts a server that was killed or stopped, and returns once it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Kill ends all processes of the server, as kill -9 does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	syscall.Kill(s.pid, syscall.SIGSTOP) // so that it starts no other
	children := s.children()
	for _, pid := range append(children, s.pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.end()
	for _, pid := range children {
		for range 1000 {
			if _, state := parent(pid); state == "" || state == "Z" {
				break
			}
			time.Sleep(10 * time.Millisecond) // it is not our child
		}
	}
}

// KillBackend ends the process of one connection, as kill -9 does, and returns once the server answers
// again: it ends all connections, and starts anew from its log.
func (s *Server) KillBackend(t testing.TB) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	other, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	syscall.Kill(int(other.PgConn().PID()), syscall.SIGKILL)
	if _, err := c.Exec(t.Context(), `SELECT pg_sleep(60)`); err == nil {
		t.Fatal("the server goes on after a crash")
	}
	if err := s.await(); err != nil {
		t.Fatal(err)
	}
}

// Stop shuts the server down, and ends all connections.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.end()
}

// Stall stops all processes of the server until [Server.Resume]: it accepts connections, but
// never answers.
func (s *Server) Stall(t testing.TB) {
	t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume continues after [Server.Stall].
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.signal(syscall.SIGCONT)
}

// script starts the server, writes its process id, and waits for a line, or for the end of the
// test binary. Then it stops the server. It deletes the files unless it read a line.
const script = `rm -f %[2]s/data/postmaster.pid
%[1]s/postgres -D %[2]s/data -k %[2]s -c listen_addresses= -c fsync=off -c max_connections=200 %[3]s \
	>>%[2]s/log 2>&1 </dev/null &
echo $!
read -r keep
kill -CONT $! $(ps -o pid= --ppid $!) 2>/dev/null
kill -INT $! 2>/dev/null
wait
[ -n "$keep" ] || rm -rf %[2]s`

func (s *Server) start() error {
	var settings strings.Builder
	for _, setting := range s.settings {
		settings.WriteString(" -c " + setting)
	}
	s.shell = asPostgres(exec.Command("/bin/sh", "-c", fmt.Sprintf(script, binaries(), s.dir, settings.String())))
	s.shell.SysProcAttr.Setpgid = true
	var err error
	if s.control, err = s.shell.StdinPipe(); err != nil {
		return err
	}
	out, err := s.shell.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.shell.Start(); err != nil {
		return err
	}
	if _, err := fmt.Fscan(out, &s.pid); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s.await()
}

// await waits until the server accepts connections.
func (s *Server) await() error {
	ready := filepath.Join(binaries(), "pg_isready")
	for range 600 {
		if exec.Command(ready, "-q", "-h", s.dir).Run() == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond) // pg_isready cannot wait
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("PostgreSQL did not start: %s", log)
}

// end stops the server if it runs, and keeps its files.
func (s *Server) end() {
	io.WriteString(s.control, "keep\n")
	s.control.Close()
	s.shell.Wait()
}

// remove stops the server and deletes its files.
func (s *Server) remove() {
	s.control.Close()
	s.shell.Wait()
	os.RemoveAll(s.dir)
}

// signal sends a signal to all processes of the server.
func (s *Server) signal(sig syscall.Signal) {
	for _, pid := range append([]int{s.pid}, s.children()...) { // the server first, so that it starts no other
		syscall.Kill(pid, sig)
	}
}

// PIDs returns the ids of all processes of the server.
func (s *Server) PIDs() []int { return append(s.children(), s.pid) }

// children returns the processes that the server has started. Each of them is a session of its own.
func (s *Server) children() (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if of, _ := parent(pid); of == s.pid {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parent returns the parent and the state of a process; "" if there is none.
func parent(pid int) (of int, state string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, ""
	}
	// PID (NAME) STATE PARENT ...
	_, after, _ := strings.Cut(string(text), ") ")
	_, _ = fmt.Sscan(after, &state, &of)
	return of, state
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
