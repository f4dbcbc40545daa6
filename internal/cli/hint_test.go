package cli

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/cobra"
)

// withoutRegistry are commands that ask no registry, or whose work is on this machine. The map is
// never written.
var withoutRegistry = []string{"serve", "demo", "doctor", "install", "client", "completion", "version", "push-layout",
	"credential-provider"}

// registryExamples calls visit with the first example of each command that asks a registry.
func registryExamples(t *testing.T, visit func(cmd *cobra.Command, args []string)) {
	t.Helper()
	count := 0
	commands(t, func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())
		if isGroup(cmd) || len(path) < 2 || slices.Contains(withoutRegistry, path[1]) || cmd.Name() == "help" ||
			slices.Contains(strings.Fields(cmd.Example), "--data-dir") && cmd.Flags().Lookup("registry") == nil {
			return
		}
		for _, args := range examples("```\n" + cmd.Example + "\n```") {
			count++
			visit(cmd, args)
			break
		}
	})
	if count < 30 {
		t.Errorf("only %d commands were found", count)
	}
}

// runExample runs an example of a command at the registry of url, and returns the standard error.
func runExample(t *testing.T, url string, args []string) (stderr string, code int) {
	t.Helper()
	return runAtURL(t, url, atURL(t, url, args))
}

// atURL returns an example of a command without the registry that it names, or with url as its URL.
func atURL(t *testing.T, url string, args []string) (all []string) {
	t.Helper()
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-r", "--registry", "--to-file":
			i++
		case "-n", "--name":
			if args[0] == "repository" { // there it is the registry
				i++
				continue
			}
			all = append(all, args[i])
		case "--url":
			all = append(all, args[i], url)
			i++
		default:
			all = append(all, args[i])
		}
	}
	if slices.Contains(flagNames(commandOf(t, all).Flags()), "--yes") {
		all = append(all, "--yes")
	}
	return all
}

// runAtURL runs a command whose registry is that of url, and returns the standard error.
func runAtURL(t *testing.T, url string, args []string) (stderr string, code int) {
	t.Helper()
	config := t.TempDir()
	env := &Env{Stdin: strings.NewReader("secret\n"), Stdout: io.Discard, Stderr: new(strings.Builder),
		LookupEnv: Variables(map[string]string{"FERRY_CONFIG_DIR": config, "FERRY_REGISTRY": url,
			"FERRY_USERNAME": "admin", "FERRY_PASSWORD": "secret"})}
	said := env.Stderr.(*strings.Builder)
	code = Run(context.Background(), args, env)
	return said.String(), code
}

// commandOf returns the command that args name.
func commandOf(t *testing.T, args []string) *cobra.Command {
	t.Helper()
	cmd, _, err := find(newRootCommand(newTestEnv(io.Discard)), args)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestEveryRefusalHasAHint(t *testing.T) {
	t.Chdir(t.TempDir()) // an example may name a file
	if err := os.WriteFile(filepath.Join(".", "ca.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var status atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(int(status.Load()))
		fmt.Fprintf(w, `{"status":%d,"title":"x","detail":"no","code":"X"}`, status.Load())
	}))
	defer srv.Close()
	registryExamples(t, func(cmd *cobra.Command, args []string) {
		all := atURL(t, srv.URL, args)
		for _, s := range []int64{401, 403, 404, 409, 412, 413, 422, 429, 500, 503} {
			status.Store(s)
			said, code := runAtURL(t, srv.URL, all)
			if code == 0 || !strings.Contains("\n"+said, "\nferry: ") || !strings.Contains(said, "\nhint: ") {
				t.Errorf("%s, refused with %d: exit code %d, %q", cmd.CommandPath(), s, code, said)
			}
		}
	})
}

func TestEveryFailedConnectionHasAHint(t *testing.T) {
	t.Chdir(t.TempDir())
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the clients refuse its certificate
	secure.StartTLS()
	defer secure.Close()
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hi")
	}))
	defer open.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for url, want := range map[string]string{
		closed.URL: "is ferry serve running",
		secure.URL: "SSL_CERT_FILE",
		strings.Replace(open.URL, "http:", "https:", 1):   "use http://",
		strings.Replace(secure.URL, "https:", "http:", 1): "use https://",
		open.URL:                     "is a ferry registry at this address?",
		"http://nosuch.invalid:5000": "check the address for a misspelling",
	} {
		said, code := runExample(t, url, strings.Fields("token show -n line1"))
		if code != 1 || !strings.Contains(said, "\nhint: ") || !strings.Contains(said, want) {
			t.Errorf("%s: exit code %d, %q, want %q", url, code, said, want)
		}
	}
}

func TestUnknownNameProposesTheNearest(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api/v1/tokens":
			io.WriteString(w, `{"value":[{"name":"line1"},{"name":"crane"}]}`)
		case "/v2/_catalog":
			io.WriteString(w, `{"repositories":["factory/app"]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"detail":"it could not be found","hint":"see the list"}`)
		}
	}))
	defer srv.Close()
	for line, want := range map[string]string{
		"token show -n lien1":                           "did you mean line1?",
		"token update -n Line2 --status disabled":       "did you mean line1?",
		"token delete -n wharf":                         "see the list",
		"token show -n line1":                           "see the list",
		"repository show-tags --repository factroy/app": "did you mean factory/app?",
		"repository delete --image factory/ap:1.0":      "did you mean factory/app?",
	} {
		said, code := runExample(t, srv.URL, strings.Fields(line))
		wantCode := 1
		if strings.Contains(line, " show") {
			wantCode = exitMissing
		}
		if !strings.HasSuffix(said, "\nhint: "+want+"\n") || code != wantCode {
			t.Errorf("ferry %s: exit code %d, %q, want %q", line, code, said, want)
		}
	}
}
