package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferry/internal/config"

	"github.com/spf13/pflag"
)

func testEnv(t *testing.T, vars map[string]string) *Env {
	t.Helper()
	dir := t.TempDir()
	return &Env{Now: time.Now, LookupEnv: func(k string) (string, bool) {
		if k == "FERRY_CONFIG_DIR" {
			return dir, true
		}
		return Variables(vars)(k)
	}}
}

func TestALoginIsFoundByNameOrAddress(t *testing.T) {
	env := testEnv(t, map[string]string{"FERRY_REGISTRY": "home"})
	_, err := env.saveLogins(logins{
		"home": {URL: "http://127.0.0.1:5000", User: "admin", Password: "one"},
		"ship": {URL: "https://ship.example", User: "token", Password: "two"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, registry, user, wantURL, wantUser string }{
		{"by name", "ship", "", "https://ship.example", "token"},
		{"in another case", "Ship", "", "https://ship.example", "token"},
		{"from the environment", "", "", "http://127.0.0.1:5000", "admin"},
		{"by address", "http://127.0.0.1:5000", "", "http://127.0.0.1:5000", "admin"},
		{"by host and port", "127.0.0.1:5000", "", "http://127.0.0.1:5000", "admin"},
		{"by host", "ship.example", "", "https://ship.example", "token"},
		{"with another user", "ship", "line1", "https://ship.example", "line1"},
		{"not saved, loopback", "localhost:5001", "u", "http://localhost:5001", "u"},
		{"not saved, loopback in numbers", "[::1]:5001", "u", "http://[::1]:5001", "u"},
		{"not saved, elsewhere", "r.example:5001", "u", "https://r.example:5001", "u"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := (&target{registry: test.registry, user: test.user}).client(env)
			if err != nil {
				t.Fatal(err)
			}
			if c.base.String() != test.wantURL || c.login.User != test.wantUser {
				t.Errorf("%s as %s", c.base, c.login.User)
			}
		})
	}
	for _, registry := range []string{"unknown", "http://127.0.0.1:5001", "ftp://x", "http://u:p@h", "http://h/path",
		"http://", "https://127.0.0.1:5000", "a b"} {
		c, err := (&target{registry: registry}).client(env)
		if err == nil {
			t.Errorf("%q: got %s as %s", registry, c.base, c.login.User)
		}
	}
}

func TestOnlyTheOwnerCanReadSavedPasswords(t *testing.T) {
	env := testEnv(t, nil)
	path, err := env.saveLogins(logins{"a": {URL: "http://h", User: "u", Password: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2031, 5, 6, 7, 8, 9, 999, time.UTC)
	for _, test := range []struct {
		name string
		args []string
		want string
		bad  bool
	}{
		{"never", nil, "", false},
		{"in days", []string{"--expiration-in-days=30"}, "2031-06-05T07:08:09Z", false},
		{"in days, by its old name", []string{"--days=1"}, "2031-05-07T07:08:09Z", false},
		{"at a time", []string{"--expiration=2031-12-31T12:59:59Z"}, "2031-12-31T12:59:59Z", false},
		{"both", []string{"--expiration-in-days=1", "--expiration=2031-12-31T12:59:59Z"}, "", true},
		{"no days", []string{"--expiration-in-days=0"}, "", true},
		{"too many days", []string{"--expiration-in-days=36501"}, "", true},
		{"in the past", []string{"--expiration=2030-12-31T12:59:59Z"}, "", true},
		{"with an offset", []string{"--expiration=2032-12-31T12:59:59+02:00"}, "", true},
		{"a word", []string{"--expiration=tomorrow"}, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := pflag.NewFlagSet("test", pflag.ContinueOnError)
			var e expiry
			e.define(set)
			err := set.Parse(test.args)
			var got *time.Time
			if err == nil {
				got, err = e.time(now)
			}
			if test.bad != (err != nil) {
				t.Fatalf("error %v", err)
			}
			text := ""
			if got != nil {
				text = got.Format(time.RFC3339)
			}
			if text != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}

// FuzzParseAddress checks that an address leads to no other host, and has no password. An error
// does not repeat it.
func FuzzParseAddress(f *testing.F) {
	f.Add("127.0.0.1:5000")
	f.Add("https://registry.example/")
	f.Add("http://user:secret@host")
	f.Add("https://user:secret@host:port/registry")
	f.Add("//user:secret@host:r:secret") // the last word is not the password
	f.Add("https://registry.example/registry/")
	f.Add("host//")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseAddress(s)
		if err != nil {
			if strings.Contains(err.Error(), ":secret@") {
				t.Errorf("the error has the password: %v", err)
			}
			return
		}
		if u.Host == "" || u.User != nil || u.Path != "" && !config.IsPathPrefix(u.Path) || u.RawQuery != "" ||
			(u.Scheme != "http" && u.Scheme != "https") {
			t.Errorf("%q is %q", s, u)
		}
		again, err := parseAddress(u.String())
		if err != nil || again.Host != u.Host || again.Scheme != u.Scheme {
			t.Errorf("%q is %q, and that %q, %v", s, u, again, err)
		}
	})
}

func TestResourceIDsNameSavedRegistries(t *testing.T) {
	const group = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/"
	const prefix = group + "Microsoft.ContainerRegistry/registries/"
	saved := logins{"Corp": {URL: "https://registry.corp.example"}, "cloud": {URL: "https://contoso.azurecr.cn"}}
	for id, want := range map[string]string{
		prefix + "corp":                   "https://registry.corp.example",
		strings.ToUpper(prefix) + "CORP/": "https://registry.corp.example",
		prefix + "Contoso":                "https://contoso.azurecr.cn",
	} {
		if got, err := saved.find(id); got.URL != want || err != nil {
			t.Errorf("%s is %s, %v; want %s", id, got.URL, err, want)
		}
	}
	for id, want := range map[string]string{
		prefix + "other":            "hint: give the login server in its place, such as other.azurecr.io",
		group + "Microsoft.Web/x":   "is not the resource id of a registry",
		"/subscriptions/":           "is not the resource id of a registry",
		prefix + "corp/webhooks/ci": "is not the resource id of a registry",
	} {
		var said bytes.Buffer
		if _, err := saved.find(id); err == nil || report(&said, err) != 2 || !strings.Contains(said.String(), want) {
			t.Errorf("%s: %s, want %s", id, &said, want)
		}
	}
}
