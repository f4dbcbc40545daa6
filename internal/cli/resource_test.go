package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
)

// recorder is a registry that answers {} and stores the body of the last request.
func recorder(t *testing.T) (env *Env, body *string) {
	t.Helper()
	body = new(string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*body = string(text)
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(srv.Close)
	vars := map[string]string{"FERRY_REGISTRY": srv.URL, "FERRY_USERNAME": "admin", "FERRY_PASSWORD": "x",
		"FERRY_CONFIG_DIR": t.TempDir()}
	return &Env{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{},
		LookupEnv: Variables(vars)}, body
}

func TestOnlyGivenFlagsAreSent(t *testing.T) {
	const registry, mirror = "connected-registry update -n ship1 ", "mirror update -n alpine "
	for args, want := range map[string]string{
		registry + "--gc-enabled false --keep-last 0": `{"gcEnabled":false,"keepLast":0}`,
		registry + "--gc-enabled":                     `{"gcEnabled":true}`,
		registry + "--tag-filter= --byte-budget=":     `{"tagFilters":[],"byteBudget":""}`,
		registry + "--platform a b --platform b c":    `{"platforms":["a","b","c"]}`,
		registry + "--log-level debug":                `{"logLevel":"Debug"}`,
		registry + "-s @hourly --sync-message-ttl P3D --add-client-tokens line1": `{"addClientTokens":["line1"],` +
			`"syncSchedule":"@hourly","syncMessageTtl":"P3D"}`,
		mirror + "--window= --tag-filter=":        `{"window":"","tagFilters":[]}`,
		"token update -n line1 --status DISABLED": `{"status":"disabled"}`,
		"scope-map update -n m --description=":    `{"description":""}`,
	} {
		env, body := recorder(t)
		if code := Run(t.Context(), strings.Fields(args), env); code != 0 {
			t.Errorf("%s: exit code %d: %s", args, code, env.Stderr)
		}
		if diff := cmp.Diff(want, *body); diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
	}
}

func TestOptionsRunWithoutACommandLine(t *testing.T) {
	env, body := recorder(t)
	o := &tokenUpdate{named: named{name: "line1"}, patch: api.TokenPatch{Status: new(api.Disabled)}}
	c, err := o.client(env)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.run(t.Context(), env, c); err != nil || *body != `{"status":"disabled"}` {
		t.Errorf("%s, %v", *body, err)
	}
}

func TestScriptsGetTheRawAnswer(t *testing.T) {
	const sent = `{"name":"line1","later":{"a":1}}`
	for _, test := range []struct{ args, body, want string }{
		{"token show -n line1 --query later.a", sent, "1\n"},
		{"token list --query [0].later.a", `{"value":[` + sent + `]}`, "1\n"},
		{"connected-registry sync-status -n ship1 --query later.a", sent, "1\n"},
		{"token list -o json", `{"value":null}`, "[]\n"},
	} {
		if got, _ := runAt(t, test.body, strings.Fields(test.args)...); got != test.want {
			t.Errorf("%s: %q, want %q", test.args, got, test.want)
		}
	}
}
