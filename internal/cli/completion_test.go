package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newNamesServer returns a registry with a few names of each kind.
func newNamesServer(t *testing.T) string {
	t.Helper()
	answers := map[string]string{
		"/api/v1/connected-registries":   `{"value":[{"name":"Ship01"},{"name":"ship2"},{"name":"factory"}]}`,
		"/api/v1/tokens":                 `{"value":[{"name":"line1"},{"name":"line2"}]}`,
		"/api/v1/scope-maps":             `{"value":[{"name":"pullers"}]}`,
		"/v2/_catalog":                   `{"repositories":["factory/app","factory/tool"]}`,
		"/acr/v1/factory/app/_tags":      `{"tags":[{"name":"1.0"},{"name":"1.1"}]}`,
		"/acr/v1/factory/app/_manifests": `{"manifests":[{"digest":"sha256:ab"}]}`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "admin" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answers[r.URL.Path])
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// completed returns the completions of a line, whose last word is begun, and what the shell does
// besides.
func completed(t *testing.T, url string, line ...string) (words, directive string) {
	t.Helper()
	stdout, _, code := runWith(t, url, nil, append([]string{cobra.ShellCompNoDescRequestCmd}, line...)...)
	if code != 0 {
		t.Fatalf("%q: exit code %d", line, code)
	}
	all := strings.Split(strings.TrimSpace(stdout), "\n")
	return strings.Join(all[:len(all)-1], " "), all[len(all)-1]
}

func TestCompletionOffersCommandsFlagsAndNames(t *testing.T) {
	url := newNamesServer(t)
	for _, test := range []struct{ line, want string }{
		{"tok", "token"},
		{"-r home tok", "token"},
		{"token -", "--debug --help -h --only-show-errors --output -o --query --to-file --verbose"},
		{"-o tsv token ", "create credential delete list show update"},
		{"token credential g", "generate"},
		{"nosuch ", ""},
		{"token show --na", "--name"},
		{"token show -n x --na", ""},
		{"token show ", "--name"},
		{"token show -o j", "json jsonc"},
		{"token show --output=ya", "--output=yaml --output=yamlc"},
		{"-o ", "json jsonc yaml yamlc table tsv none"},
		{"doctor -o t", "text table tsv"},
		{"token create --status ", "enabled disabled"},
		{"connected-registry get-settings --parent-protocol h", "http https"},
		{"connected-registry update --gc-enabled=t", "--gc-enabled=true"},
		{"connected-registry show -n s", "Ship01 ship2"},
		{"connected-registry show -o tsv --query x -n f", "factory"},
		{"--name s connected-registry sh", "show"},
		{"connected-registry create -n x --parent Sh", "Ship01 ship2"},
		{"connected-registry create --repository ", "factory/app factory/tool"},
		{"connected-registry create --repository factory/app ", "factory/tool"},
		{"connected-registry create --repository factory/app factory/t", "factory/tool"},
		{"connected-registry create --repository factory/app --client-tokens line1 l", "line2"},
		{"connected-registry update --add-client-tokens ", "line1 line2"},
		{"token create --scope-map p", "pullers"},
		{"scope-map update --name ", "pullers"},
		{"scope-map create --repository factory/app content/", "content/read content/write content/delete"},
		{"scope-map create --gateway ship2 message/r", "message/read"},
		{"repository show-tags --repository factory/a", "factory/app"},
		{"repository delete --image fac", "factory/app factory/tool"},
		{"repository delete --image factory/app:", "factory/app:1.0 factory/app:1.1"},
		{"repository delete --image factory/app@sh", "factory/app@sha256:ab"},
		{"repository delete -u nobody --password x --repository ", ""},
		{"client configure con", "containerd"},
		{"wait --sites ", ""}, // a filter, not a name
		{"completion ", "bash fish powershell zsh"},
	} {
		got, directive := completed(t, url, strings.Split(test.line, " ")...)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q: %s", test.line, diff)
		}
		want := ":4"
		if test.line == "repository delete --image fac" {
			want = ":6" // and no space, because a tag may follow
		}
		if directive != want {
			t.Errorf("%q: directive %s, want %s", test.line, directive, want)
		}
	}
	for _, line := range []string{"push-layout ", "token list --to-file ", "serve --data-dir "} {
		if got, directive := completed(t, url, strings.Split(line, " ")...); got != "" || directive != ":0" {
			t.Errorf("%q: %q %s, want the shell's files", line, got, directive)
		}
	}
}

func TestCompletionOffersSavedLogins(t *testing.T) {
	env := newTestEnv(&bytes.Buffer{})
	env.LookupEnv = Variables(map[string]string{"FERRY_CONFIG_DIR": t.TempDir()})
	saved := logins{"home": {URL: "http://a.example"}, "away": {URL: "http://b.example"}}
	if _, err := env.saveLogins(saved); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"token list -r ", "repository list -n ", "login "} {
		var out bytes.Buffer
		env.Stdout = &out
		Run(context.Background(), append([]string{cobra.ShellCompRequestCmd}, strings.Split(line, " ")...), env)
		if want := "away\thttp://b.example\nhome\thttp://a.example\n:4\n"; out.String() != want {
			t.Errorf("%q: %q", line, out.String())
		}
	}
}

func TestCompletionIsSilentAndQuickWithoutARegistry(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	for _, url := range []string{srv.URL, "http://127.0.0.1:1", "nosuch", ""} {
		begun := time.Now()
		stdout, stderr, code := runWith(t, url, nil, cobra.ShellCompRequestCmd, "token", "show", "-n", "")
		if took := time.Since(begun); stdout != ":4\n" || stderr != "" || code != 0 || took > 10*completionTime {
			t.Errorf("%q: %q %q, exit code %d after %s", url, stdout, stderr, code, took)
		}
	}
}

func TestEveryFlagForANameCompletes(t *testing.T) {
	// The flags of these kinds take a name that is new, or that no registry lists.
	free := map[string]bool{"namespace": true, "storage-class": true, "service": true, "username": true, "actor": true,
		"source": true}
	commands(t, func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			kind := strings.TrimSuffix(f.Value.Type(), "...")
			isName := kind == "NAME" || kind == "NAME ACTION" || kind == "REGISTRY" || kind == "IMAGE"
			path := cmd.CommandPath()
			elsewhere := strings.HasPrefix(path, "ferry client") || strings.HasPrefix(path, "ferry install")
			if isName && !f.Hidden && !free[f.Name] && !elsewhere && sourceOf(cmd, f) == "" {
				t.Errorf("%s --%s %s has no completion; see flagNamesOf", path, f.Name, f.Value.Type())
			}
		})
	})
}

// FuzzComplete checks that no line makes the completion fail.
func FuzzComplete(f *testing.F) {
	for _, seed := range []string{"token show -n ", "-r= --x", "scope-map create --repository a b --", "= -="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var out bytes.Buffer
		env := newTestEnv(&out)
		env.LookupEnv = Variables(map[string]string{"FERRY_CONFIG_DIR": t.TempDir()})
		if strings.Contains(line, "-r") || strings.Contains(line, "--reg") {
			return // it would ask that registry
		}
		Run(context.Background(), append([]string{cobra.ShellCompRequestCmd}, strings.Split(line, " ")...), env)
		var directive int
		last := out.String()[strings.LastIndex(strings.TrimSuffix(out.String(), "\n"), "\n")+1:]
		if n, err := fmt.Sscanf(last, ":%d", &directive); n != 1 || err != nil {
			t.Errorf("%q: %q", line, out.String())
		}
	})
}
