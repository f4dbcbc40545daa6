package instance

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Admin logs in to the instance as its administrator, and returns a shell in which
// ferry's commands are logged in. It saves the login under name in a new
// configuration directory. The shell has the test's environment and env
// (NAME=VALUE).
func (s *Instance) Admin(t testing.TB, name string, env ...string) *Shell {
	t.Helper()
	sh := &Shell{dir: t.TempDir(), env: env}
	sh.stdin = s.AdminPassword(t)
	sh.Run(t, "login", name, "--url", s.URL, "-u", "admin", "--password-stdin")
	sh.stdin = ""
	sh.registry = name
	return sh
}

// A Shell runs ferry's commands with a saved login.
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

// Run runs a command, fails the test if the command fails, and returns its output.
func (sh *Shell) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := sh.Try(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for a command that may fail; the error is a *[CommandError].
func (sh *Shell) Try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(Binary(t), args...)
	cmd.Env = sh.Env()
	cmd.Stdin = strings.NewReader(sh.stdin)
	return Output(cmd)
}

// JSON is Run, and decodes the output into v.
func (sh *Shell) JSON(t testing.TB, v any, args ...string) {
	t.Helper()
	out := sh.Run(t, args...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("ferry %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// A CommandError is a failed command, with its output.
type CommandError struct {
	Args   []string
	Err    error
	Output string // standard output and error
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
