// Package oidc logs people in to an instance with a real OpenID Connect provider in this process.
package oidc

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"ferry/internal/cli"
)

const person, password = "ada@ship", "verysecure"

// startProvider starts a provider that knows one person, and returns its issuer.
func startProvider(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.json")
	text := `{"` + person + `":{"ID":"` + person + `","Username":"` + person + `","Password":"` + password + `",
		"Email":"ada@ship.example","EmailVerified":true,"PreferredLanguage":"en"}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := storage.StoreFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	issuer := "http://localhost:" + port + "/"
	s := &http.Server{Handler: exampleop.SetupServer(issuer, storage.NewStorage(users), nil, false)}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return issuer
}

// A buffer can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// find waits until the text matches, and returns the first group.
func (b *buffer) find(t *testing.T, pattern string) string {
	t.Helper()
	wanted := regexp.MustCompile(pattern)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		b.mu.Lock()
		m := wanted.FindStringSubmatch(b.text.String())
		b.mu.Unlock()
		if m != nil {
			return m[1]
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("%s is not in %s", pattern, &b.text)
	return ""
}

// run runs the program.
func run(ctx context.Context, config string, out, log io.Writer, args ...string) int {
	return cli.Run(ctx, args, &cli.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: log,
		LookupEnv: cli.Variables(map[string]string{"FERRY_CONFIG_DIR": config})})
}

// startInstance starts an instance that trusts the provider, and returns its URL.
func startInstance(t *testing.T, issuer string) string {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var out, log buffer
	done := make(chan int)
	go func() {
		done <- run(ctx, t.TempDir(), &out, &log, "serve", "--data-dir", filepath.Join(t.TempDir(), "data"),
			"--listen", "127.0.0.1:0", "--oidc-issuer", issuer, "--oidc-client-id", "web",
			"--oidc-client-secret-file", secret, "--oidc-cli-client-id", "cli",
			"--oidc-cli-client-secret-file", secret, "--oidc-groups-claim", "sub",
			"--oidc-groups", person+"=admin:team/*")
	}()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != 0 {
			t.Errorf("exit code %d: %s", code, &log.text)
		}
	})
	return out.find(t, `(http://127\.0\.0\.1:\d+)`)
}

func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

// page returns the text of an answer, and its address.
func page(t *testing.T, resp *http.Response, err error) (string, *url.URL) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), resp.Request.URL
}

func TestPeopleLogInWithARealProvider(t *testing.T) {
	issuer := startProvider(t)
	instance := startInstance(t, issuer)
	storage.RegisterClients(storage.WebClient("web", "secret", instance+"/login/oidc/callback"),
		storage.DeviceClient("cli", "secret"))

	t.Run("a browser", func(t *testing.T) {
		b := newBrowser(t)
		resp, err := b.Get(instance + "/login/oidc?return=/api/v1/login")
		text, at := page(t, resp, err)
		form := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(text)
		if form == nil {
			t.Fatalf("%s has no form: %s", at, text)
		}
		to, _ := at.Parse("/login/username")
		resp, err = b.PostForm(to.String(), url.Values{"id": {form[1]}, "username": {person}, "password": {password}})
		text, at = page(t, resp, err)
		if !strings.Contains(text, `"name":"oidc:`+person+`"`) || !strings.Contains(text, `"limits":true`) {
			t.Errorf("%s: %s", at, text)
		}
	})

	t.Run("the command line", func(t *testing.T) {
		config := t.TempDir()
		var out, log buffer
		done := make(chan int)
		go func() { done <- run(t.Context(), config, &out, &log, "login", "home", "--url", instance, "--oidc") }()
		address := log.find(t, `Open (\S+) in a browser`)
		b := newBrowser(t)
		resp, err := b.Get(address)
		_, at := page(t, resp, err)
		to, _ := at.Parse("/device/login")
		code := log.find(t, `enter the code (\S+)`)
		form := url.Values{"user_code": {code}, "username": {person}, "password": {password}}
		resp, err = b.PostForm(to.String(), form)
		_, at = page(t, resp, err)
		to, _ = at.Parse("/device/confirm?action=allowed")
		resp, err = b.Get(to.String())
		page(t, resp, err)
		if code := <-done; code != 0 {
			t.Fatalf("exit code %d: %s", code, &log.text)
		}
		info, err := os.Stat(filepath.Join(config, "registries.json"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		for _, test := range []struct {
			args string
			code int
		}{
			{"repository list -r home", 0}, {"scope-map list -r home", 0}, {"operator list -r home", 1},
			{"scope-map create -r home -n team --repository team/app content/read", 0},
			{"scope-map create -r home -n other --repository other content/read", 1},
		} {
			var out, log buffer
			if code := run(t.Context(), config, &out, &log, strings.Fields(test.args)...); code != test.code {
				t.Errorf("ferry %s: exit code %d: %s", test.args, code, &log.text)
			}
		}
	})
}
