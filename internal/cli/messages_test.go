package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLongWaitsAreShownOnStandardError(t *testing.T) {
	reason := func() string { return "waiting for http://registry.example to answer" }
	for name, test := range map[string]struct {
		columns int
		dumb    bool
		took    time.Duration
		want    string
	}{
		"short":               {0, false, waitShown - 1, ""},
		"without a screen":    {0, false, 40 * time.Second, reason() + " (2 s)\n" + reason() + " (32 s)\n"},
		"short on a terminal": {80, false, waitShown - 1, ""},
		"on a terminal": {80, false, waitShown + waitDrawn + 1,
			"\r\x1b[K| " + reason() + " (2 s)\r\x1b[K/ " + reason() + " (2 s)\r\x1b[K"},
		"on a narrow terminal": {23, false, waitShown + 1, "\r\x1b[K| waiting for http://…\r\x1b[K"},
		"on a dumb terminal":   {80, true, waitShown + 1, reason() + " (2 s)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				said := capturedOutput{columns: test.columns}
				w := &waits{out: &said, dumb: test.dumb}
				end := w.begin(reason)
				inner := w.begin(func() string { return "never shown" })
				time.Sleep(test.took)
				inner()
				end()
				if said.String() != test.want {
					t.Errorf("%q, want %q", said.String(), test.want)
				}
				resume := w.suspend()
				end = w.begin(reason)
				time.Sleep(time.Minute)
				end()
				resume()
				if said.String() != test.want {
					t.Errorf("while suspended: %q", said.String())
				}
			})
		})
	}
}

// secrets are those of the answer of newSecretServer, and of the login.
var secrets = []string{"pass-of-login", "pass-of-answer", "SyncTokenPassword=", "session-cookie"}

// newSecretServer returns a registry that warns, and answers with secrets.
func newSecretServer(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Set-Cookie", "a=session-cookie")
		io.WriteString(w, `{"name":"line1","credentials":{"passwords":[{"name":"password1","value":"pass-of-answer"}]},
			"ACR_REGISTRY_CONNECTION_STRING":"a;SyncTokenPassword=x",
			"unheard":{"count":1,"registries":[{"name":"ship1"}]}}`)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// runWith runs a command at a registry, and returns its outputs.
func runWith(t *testing.T, url string, variables map[string]string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, said bytes.Buffer
	all := map[string]string{"FERRY_CONFIG_DIR": t.TempDir(), "FERRY_REGISTRY": url,
		"FERRY_USERNAME": "admin", "FERRY_PASSWORD": "pass-of-login"}
	for name, value := range variables {
		all[name] = value
	}
	env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &said, LookupEnv: Variables(all)}
	code = Run(context.Background(), args, env)
	return out.String(), said.String(), code
}

func TestOnlyShowErrorsHidesNotes(t *testing.T) {
	url := newSecretServer(t)
	for _, test := range []struct {
		args      []string
		variables map[string]string
		quiet     bool
	}{
		{args: []string{"token", "create", "-n", "line1", "--scope-map", "m"}},
		{args: []string{"--only-show-errors", "token", "create", "-n", "line1", "--scope-map", "m"}, quiet: true},
		{args: []string{"token", "create", "-n", "line1", "--scope-map", "m", "--only-show-errors"}, quiet: true},
		{args: []string{"token", "create", "-n", "line1", "--scope-map", "m"},
			variables: map[string]string{"AZURE_CORE_ONLY_SHOW_ERRORS": "true"}, quiet: true},
	} {
		_, stderr, code := runWith(t, url, test.variables, test.args...)
		if code != 0 || (stderr == "") != test.quiet {
			t.Errorf("%q: exit code %d, %q", test.args, code, stderr)
		}
	}
	_, stderr, code := runWith(t, url, nil, "token", "delete", "-n", "line1", "--only-show-errors")
	if code != 1 || !strings.Contains(stderr, "hint: add --yes") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

func TestRequestsAreShownWithoutSecrets(t *testing.T) {
	url := newSecretServer(t)
	_, said, code := runWith(t, url, nil, "--verbose", "token", "show", "-n", "line1", "-o", "none")
	if line := "GET " + url + "/api/v1/tokens/line1: 200 OK in "; code != 0 || !strings.HasPrefix(said, line) ||
		strings.Count(said, "\n") != 1 {
		t.Errorf("exit code %d, %q", code, said)
	}
	stdout, said, code := runWith(t, url, nil, "token", "create", "-n", "line1", "--scope-map", "m", "--debug")
	if code != 0 || !strings.Contains(stdout, "pass-of-answer") {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	for _, want := range []string{
		"> PUT " + url + "/api/v1/tokens/line1\n", "> Authorization: ***\n", "< 200 OK in ", "< Set-Cookie: ***\n",
		`"value":"***"`, `"name":"password1"`, `"scopeMap":"m"`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in\n%s", want, said)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(said, secret) {
			t.Errorf("%q is in\n%s", secret, said)
		}
	}
}

func TestVariablesGiveFlagsTheirValues(t *testing.T) {
	for _, test := range []struct {
		variables  map[string]string
		args, want string
		code       int
	}{
		{map[string]string{"FERRY_OUTPUT": "tsv"}, "version --query go", runtime.Version() + "\n", 0},
		{map[string]string{"AZURE_CORE_OUTPUT": "TSV"}, "version --query go", runtime.Version() + "\n", 0},
		{map[string]string{"FERRY_OUTPUT": "tsv"}, "version --query go -o json", "\"" + runtime.Version() + "\"\n", 0},
		{map[string]string{"FERRY_OUTPUT": "none", "AZURE_CORE_OUTPUT": "tsv"}, "version", "", 0},
		{map[string]string{"FERRY_OUTPUT": "xml"}, "version", "", 2},
	} {
		got, said, code := runWith(t, "", test.variables, strings.Fields(test.args)...)
		if got != test.want || code != test.code {
			t.Errorf("%v %s: exit code %d, %q %q", test.variables, test.args, code, got, said)
		}
	}
}
