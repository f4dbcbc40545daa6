// Package daemon runs other people's servers for as long as a test lasts.
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

// Start starts a server that ends with the test, and returns what find makes
// of the first line of its standard error in which it finds something.
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
				for lines.Scan() { // until it ends, so that it never waits for us
				}
			}()
			return found
		}
		fmt.Fprintln(&said, lines.Text())
	}
	t.Fatalf("%s ended: %v\n%s", cmd.Path, lines.Err(), said.String())
	return ""
}

// FreeAddress returns an address that nobody listened at a moment ago, for
// programs that do not say which one they took.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Distribution runs CNCF distribution with files for storage, its cache in
// memory and its log all but silent, and returns its host:port. auth is a
// section of its configuration, and tls a part of the section http.
func Distribution(t testing.TB, program, auth, tls string) string {
	t.Helper()
	dir := t.TempDir()
	addr := FreeAddress(t)
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
%shttp:
  addr: %q
%s`, filepath.Join(dir, "store"), auth, addr, tls)
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
