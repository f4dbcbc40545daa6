package site

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Admin logs in to the site as its administrator, saves that under name in a
// configuration directory of its own, and returns a command line there, with
// env (NAME=VALUE) beside the test's own environment.
func (s *Site) Admin(t testing.TB, name string, env ...string) *Shell {
	t.Helper()
	sh := &Shell{dir: t.TempDir(), env: env}
	sh.stdin = s.AdminPassword(t)
	sh.Run(t, "login", name, "--url", s.URL, "-u", "admin", "--password-stdin")
	sh.stdin = ""
	sh.registry = name
	return sh
}

// A Shell runs ferry's commands as somebody who is logged in.
type Shell struct {
	dir      string // of the saved logins
	registry string // FERRY_REGISTRY
	stdin    string
	env      []string
}

// Env returns the environment in which ferry's commands are logged in.
func (sh *Shell) Env() []string {
	return append(append(os.Environ(), sh.env...), "FERRY_CONFIG_DIR="+sh.dir, "FERRY_REGISTRY="+sh.registry)
}

// Run runs a command, fails the test where it fails, and returns its output.
func (sh *Shell) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := sh.Try(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for a command that may fail; the error has what it said.
func (sh *Shell) Try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(Binary(t), args...)
	cmd.Env = sh.Env()
	cmd.Stdin = strings.NewReader(sh.stdin)
	return Output(cmd)
}

// JSON is Run with the output read into v.
func (sh *Shell) JSON(t testing.TB, v any, args ...string) {
	t.Helper()
	out := sh.Run(t, args...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("ferry %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// A CommandError is a command that failed, with what it said.
type CommandError struct {
	Args   []string
	Err    error
	Output string // of its standard error
}

func (e *CommandError) Error() string {
	return strings.Join(e.Args, " ") + ": " + e.Err.Error() + "\n" + e.Output
}

// Output runs cmd and returns its standard output. An error is a
// *[CommandError].
func Output(cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), &CommandError{cmd.Args, err, out.String() + said.String()}
	}
	return out.String(), nil
}
