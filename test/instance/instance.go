// Package instance runs ferry as a person would: the built program, in a process of
// its own, on loopback. Begin with [Start].
package instance

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An Instance is one running `ferry serve`.
type Instance struct {
	DataDir string
	URL     string // http://127.0.0.1:PORT, or https://
	Host    string // 127.0.0.1:PORT

	cmd    *exec.Cmd
	log    log
	exited chan struct{} // closed once err is set
	err    error
}

// Options say how to run an instance. The zero value is a root in a new directory at
// a free port.
type Options struct {
	DataDir string
	Listen  string               // default 127.0.0.1:0
	Args    []string             // more arguments for `ferry serve`
	Env     []string             // NAME=VALUE, in addition to the test's own
	Program string               // default that of [Binary]
	Attr    *syscall.SysProcAttr // of the process, such as its user
}

// readyTimeout is how long an instance may take to serve. It needs so long only on a busy machine.
const readyTimeout = time.Minute

// Start runs an instance, and returns once it serves. It stops with the test.
func Start(t testing.TB, o Options) *Instance {
	t.Helper()
	s, err := Try(t, o)
	if err != nil {
		t.Fatalf("ferry serve: %v\n%s", err, s.Log())
	}
	return s
}

// Try is [Start] for an instance that may not come up. With an error, which says how
// the process ended, it also returns an Instance that has the log.
func Try(t testing.TB, o Options) (*Instance, error) {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = filepath.Join(t.TempDir(), "data")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Program == "" {
		o.Program = Binary(t)
	}
	s := &Instance{DataDir: o.DataDir, exited: make(chan struct{})}
	s.cmd = exec.Command(o.Program,
		append([]string{"serve", "--data-dir", o.DataDir, "--listen", o.Listen}, o.Args...)...)
	s.cmd.SysProcAttr = o.Attr
	s.cmd.Env = append(os.Environ(), o.Env...)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = write, write
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	ready := make(chan string, 1)
	go s.watch(read, ready)
	t.Cleanup(func() {
		s.Kill(t)
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.URL, s.Log())
		}
	})
	select {
	case s.URL = <-ready:
		_, s.Host, _ = strings.Cut(s.URL, "://")
		return s, nil
	case <-s.exited:
		return s, s.err
	case <-time.After(readyTimeout):
		s.Kill(t)
		return s, errors.New("did not serve in time")
	}
}

// address finds the URL of an instance in its log.
var address = regexp.MustCompile(`msg=(?:serving|"serving[^"]*") .*\burl="?(https?://[^\s"]+)`)

// watch keeps the output of the process, and ends with the process.
func (s *Instance) watch(output io.ReadCloser, ready chan<- string) {
	defer output.Close()
	for lines := bufio.NewScanner(output); lines.Scan(); {
		s.log.add(lines.Text())
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			select {
			case ready <- m[1]:
			default:
			}
		}
	}
	s.err = s.cmd.Wait()
	close(s.exited)
}

// Stop ends the instance as a person would, and fails the test if the process ends
// with an error.
func (s *Instance) Stop(t testing.TB) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.exited
	if s.err != nil {
		t.Fatalf("ferry serve ended with %v\n%s", s.err, s.Log())
	}
}

// Kill ends the instance as a power cut does. It does nothing if the instance has ended.
func (s *Instance) Kill(t testing.TB) {
	s.cmd.Process.Kill()
	<-s.exited
}

// Running reports whether the process runs.
func (s *Instance) Running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// PID returns the process's id.
func (s *Instance) PID() int { return s.cmd.Process.Pid }

// Log returns the output of the instance so far.
func (s *Instance) Log() string { return s.log.text() }

// AdminPassword returns the first administrator's password.
func (s *Instance) AdminPassword(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.DataDir, "initial-admin-password"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// log is the lines that a process has written.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
