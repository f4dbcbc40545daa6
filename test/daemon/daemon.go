// Package daemon runs servers of other projects in tests.
package daemon

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Start starts a server, which is stopped at the end of the test. It calls find with each
// line of standard error, and returns the first result that is not "".
func Start(t testing.TB, cmd *exec.Cmd, find func(line string) string) string {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var said strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if found := find(lines.Text()); found != "" {
			go func() {
				for lines.Scan() { // read all lines, so that the server never blocks
				}
			}()
			return found
		}
		fmt.Fprintln(&said, lines.Text())
	}
	t.Fatalf("%s ended: %v\n%s", cmd.Path, lines.Err(), said.String())
	return ""
}

// FreeAddress returns an address that was free a moment ago. It is for programs that do not
// report the port that they chose.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Program returns the path of a program: in .tools, or in the PATH. If it is not installed, the
// test is skipped, or fails in CI; install is the command that installs it.
func Program(t testing.TB, name, install string) string {
	t.Helper()
	if path, err := filepath.Abs(filepath.Join("../../.tools", name)); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed: %s", name, install)
		}
		t.Skipf("%s is not installed: %s", name, install)
	}
	return path
}

// A DistributionConfig is parts of the configuration of CNCF distribution. The zero value stores
// files, and serves everybody by HTTP.
type DistributionConfig struct {
	Storage string // in the section storage, instead of filesystem
	Auth    string // the section auth
	TLS     string // in the section http
}

// Distribution runs CNCF distribution with a cache in memory, and returns its host:port. It does
// not log requests.
func Distribution(t testing.TB, program string, c DistributionConfig) string {
	t.Helper()
	dir := t.TempDir()
	if c.Storage == "" {
		c.Storage = fmt.Sprintf("  filesystem: {rootdirectory: %q}\n", filepath.Join(dir, "store"))
	}
	addr := FreeAddress(t)
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
%s  cache: {blobdescriptor: inmemory}
%shttp:
  addr: %q
%s`, c.Storage, c.Auth, addr, c.TLS)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	return Start(t, cmd, func(line string) string {
		if strings.Contains(line, "listening on") {
			return addr
		}
		return ""
	})
}
