package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func noEnv(string) (string, bool) { return "", false }

// variables are an environment.
type variables map[string]string

func (v variables) lookup(name string) (string, bool) {
	value, set := v[name]
	return value, set
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ferry.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSettingsHaveTheirOrderOfPrecedence(t *testing.T) {
	path := write(t, "listen: :1\ndata-dir: /file\nchunk-size: 2MiB\nlog-level: debug\n")
	env := map[string]string{"FERRY_LISTEN": ":2", "FERRY_DATA_DIR": "/env"}
	got, err := Load(path, variables(env).lookup, map[string]string{"listen": ":3"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen, want.DataDir, want.ChunkSize, want.LogLevel = ":3", "/env", 2<<20, slog.LevelDebug
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEverySettingHasAVariableAndAKey(t *testing.T) {
	values := map[string]string{
		"data-dir": "/d", "listen": "h:1", "database": "postgres://h/d", "tls": "own-ca",
		"blobs": "s3://b/p", "blobs-endpoint": "https://h", "blobs-region": "r", "blobs-addressing": "path",
		"blobs-credentials-file": "f", "blobs-encryption": "kms:k", "blobs-ca": "f", "blob-redirect": "10.0.0.0/8",
		"cluster-secret-file": "f",
		"database-readers":    "30", "database-writers": "3", "database-timeout": "7s", "database-wait": "7s",
		"acme-email": "a@example.org", "acme-directory": "https://h/dir", "acme-ca": "f",
		"tls-names": "ship1.example,10.1.1.1,*.example", "ca-config-map": "site/ca",
		"pull-secrets": "site/pull, nodes/pull", "tls-cert": "c", "tls-key": "k",
		"connection-string": "a=b", "connection-string-file": "f",
		"parent-endpoint": "h:1", "parent-ca": "f", "announce-endpoint": "h:2", "chunk-size": "3MiB", "spread": "90s",
		"scrub": "14d", "scrub-rate": "8MiB", "scrub-window": "01:00-05:00",
		"external-url": "https://h", "metrics": "anyone", "path-prefix": "/registry",
		"trusted-proxies": "10.0.0.0/8", "max-connections": "100",
		"drain-delay": "5s", "limits": "tokens=5",
		"mirror-names": "docker.io=hub", "mirror-default": "docker.io", "anonymous": "off",
		"audit-retention": "30d",
		"hook":            "/bin/true", "hook-timeout": "5s", "webhook": "https://h/", "webhook-secret-file": "f",
		"webhook-ca":  "f",
		"oidc-issuer": "https://h", "oidc-client-id": "i", "oidc-client-secret-file": "f",
		"oidc-cli-client-id": "i", "oidc-cli-client-secret-file": "f", "oidc-groups": "ops=admin",
		"oidc-groups-claim": "roles", "oidc-ca": "f",
		"log-level": "error", "log-format": "json",
	}
	for _, s := range Settings() {
		value, ok := values[s.Name]
		if !ok {
			t.Errorf("%s has no value in this test", s.Name)
		}
		fromEnv, fromFile := Default(), Default()
		if err := fromEnv.apply(layer{s.Name: {value, s.Env()}}); err != nil {
			t.Error(err)
		}
		l, err := parseLayer("f", []byte(s.Name+": \""+value+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := fromFile.apply(l); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(fromEnv, fromFile); diff != "" || cmp.Equal(fromEnv, Default()) {
			t.Errorf("%s: %s", s.Name, diff)
		}
	}
}

func TestChangedSettingsAreNamedAndTaken(t *testing.T) {
	from, to := Default(), Default()
	to.ChunkSize, to.LogLevel, to.MaxConnections, to.Listen, to.TLSNames = 1<<20+1, slog.LevelWarn, 7, ":1", "a"
	names := from.Changes(to)
	want := []string{"listen", "tls-names", "chunk-size", "max-connections", "log-level"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(to, from.With(to, names)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(from, to.With(from, names)); diff != "" {
		t.Error(diff)
	}
}

func TestConnectionStringOverridesAFileOfALowerLayer(t *testing.T) {
	path := write(t, "connection-string-file: /file\n")
	got, err := Load(path, noEnv, map[string]string{"connection-string": "x"})
	if err != nil || got.ConnectionString != "x" || got.ConnectionStringFile != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBadSettingsAreRefusedWithTheirPlace(t *testing.T) {
	for _, test := range []struct{ name, file, flag, value, want string }{
		{"unknown key", "listen: :1\nlsten: :2\n", "", "", `ferry.yaml:2: unknown setting "lsten"`},
		{"repeated key", "listen: :1\nlisten: :2\n", "", "", "ferry.yaml:2: listen is set already, on line 1"},
		{"nested value", "listen:\n  host: x\n", "", "", "ferry.yaml:2: listen takes one plain value"},
		{"list", "- a\n", "", "", "ferry.yaml:1: want a mapping"},
		{"broken YAML", "listen: [\n", "", "", "read configuration"},
		{"bad size in the file", "\nchunk-size: lots\n", "", "", `ferry.yaml:2: chunk-size: "lots" is not a size`},
		{"bad size", "", "chunk-size", "1XB", `--chunk-size: "1XB" is not a size`},
		{"small chunk", "", "chunk-size", "1KiB", "chunk-size 1KiB: want 64KiB to 1GiB"},
		{"port", "", "listen", "127.0.0.1:70000", `port "70000" is not a number`},
		{"no port", "", "listen", "127.0.0.1", "want host:port"},
		{"unknown TLS", "tls: maybe", "", "", "want off, files, own-ca or acme"},
		{"ACME without names", "", "tls", "acme", "want tls-names"},
		{"ACME for an address", "tls-names: a.example,10.1.1.1\n", "tls", "acme", "10.1.1.1: an ACME server needs"},
		{"ACME for a wildcard", "tls-names: '*.a.example'\n", "tls", "acme", "an ACME server needs"},
		{"ACME in plain HTTP", "tls-names: a.example\nacme-directory: http://h/d\n", "tls", "acme", "acme-directory"},
		{"email without ACME", "", "acme-email", "a@example.org", "want tls acme"},
		{"files without files", "", "tls", "files", "want tls-cert and tls-key"},
		{"own CA with files", "tls-cert: c\ntls-key: k\n", "tls", "own-ca", "tls-cert is for tls files"},
		{"names without own CA", "", "tls-names", "x", "want tls own-ca"},
		{"name with a port", "tls-names: x:5000\n", "tls", "own-ca", "without ports"},
		{"ConfigMap without own CA", "", "ca-config-map", "a/b", "want tls own-ca"},
		{"ConfigMap without namespace", "ca-config-map: b\n", "tls", "own-ca", "want NAMESPACE/NAME"},
		{"pull secret without namespace", "", "pull-secrets", "a/b,c", "want NAMESPACE/NAME"},
		{"half of TLS", "", "tls-cert", "x", "tls-cert and tls-key belong together"},
		{"long drain", "", "drain-delay", "1h", "drain-delay 1h0m0s: want 0s to 10m0s"},
		{"drain without unit", "", "drain-delay", "5", "--drain-delay: time: missing unit"},
		{"database", "", "database", "mysql://secret@h", "database: want postgres://"},
		{"external URL", "", "external-url", "ferry.example", "external-url"},
		{"external URL with a strange path", "", "external-url", "https://h/a/../b", "external-url"},
		{"external URL with two slashes", "", "external-url", "https://h//", "external-url"},
		{"external URL with a query", "", "external-url", "https://h/ferry?x", "external-url"},
		{"prefix without slash", "", "path-prefix", "ferry", "path-prefix"},
		{"prefix with another slash", "", "path-prefix", "/ferry/", "path-prefix"},
		{"proxies", "", "trusted-proxies", "10.0.0.0/8,proxy", `trusted-proxies "10.0.0.0/8,proxy": want addresses`},
		{"anonymous", "", "anonymous", "on", `anonymous "on": want by-scope-map or off`},
		{"connections", "", "max-connections", "0", `--max-connections: "0": want auto, or a number`},
		{"log level", "", "log-level", "loud", "want debug, info, warn or error"},
		{"empty data directory", "", "data-dir", "", "--data-dir is empty"},
		{"a connection string from a variable that is not set", "", "connection-string", "",
			"--connection-string is empty"},
		{"TLS from a variable that is not set", "", "tls-cert", " ", "--tls-cert is empty"},
		{"empty in the file", "\ndatabase: ''\n", "", "", "ferry.yaml:2: database is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := map[string]string{}
			if test.flag != "" {
				flags[test.flag] = test.value
			}
			_, err := Load(write(t, test.file), noEnv, flags)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %q", err)
			}
		})
	}
}

func TestEmptyFileIsAccepted(t *testing.T) {
	for _, content := range []string{"", "# only a comment\n", "---\n", "~\n", "listen:\n"} {
		got, err := Load(write(t, content), noEnv, nil)
		if err != nil || !cmp.Equal(got, Default()) {
			t.Errorf("%q: %+v, %v", content, got, err)
		}
	}
}

func TestConnectionStringIsReadFromItsFile(t *testing.T) {
	c := Default()
	c.ConnectionStringFile = write(t, "\ufeffa=b\r\n")
	if got, err := c.Connection(); err != nil || got != "\ufeffa=b\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
	c.ConnectionStringFile = write(t, " \n")
	if _, err := c.Connection(); err == nil || !strings.Contains(err.Error(), "the file is empty") {
		t.Errorf("empty file: %v", err)
	}
	c.ConnectionStringFile = filepath.Join(t.TempDir(), "none")
	if _, err := c.Connection(); err == nil {
		t.Error("no error for a file that is not there")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "1KiB": 1024, "1kib": 1024, "2 MiB": 2 << 20, "1MB": 1e6, "3GB": 3e9, "5B": 5,
		"1TiB": 1 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "+1", "1.5MiB", "1 2", "0x10", "9223372036854775807KiB", "1MiBMiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("1MiB")
	f.Add("9223372036854775807")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Errorf("ParseSize(%q) = %d", s, n)
		}
		if again, err := ParseSize(FormatSize(n)); err != nil || again != n {
			t.Errorf("%d is written %q, which reads as %d, %v", n, FormatSize(n), again, err)
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("listen: :1\nchunk-size: 1MiB\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLayer("f", data)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error has several lines: %q", err)
		}
		c := Default()
		_ = c.apply(l)
	})
}

func TestSizesAreFormattedForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 1000 << 20: "1.0 GiB", 5 << 50: "5120.0 TiB",
	} {
		if got := SizeText(n); got != want {
			t.Errorf("SizeText(%d) = %q, want %q", n, got, want)
		}
	}
}
