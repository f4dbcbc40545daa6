package site

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// A Crossing is a parent and what a connected registry of it needs to start.
type Crossing struct {
	Name             string // of the connected registry
	ConnectionString string
}

// Connect makes a connected registry that syncs repos from the parent that sh
// is logged in to, always in step unless args say otherwise. It reaches the
// parent at host, which may be a link to it, by HTTP.
func Connect(t testing.TB, sh *Shell, name, host string, repos []string, args ...string) Crossing {
	t.Helper()
	create := slices.Concat([]string{"connected-registry", "create", "--name", name, "--mode", "ReadOnly",
		"--repository"}, repos, args, []string{"--yes"})
	sh.Run(t, create...)
	return Settings(t, sh, name, host, "http")
}

// Settings is [Connect] for a connected registry that is there, over http or
// https. The passwords of earlier connection strings are no longer valid.
func Settings(t testing.TB, sh *Shell, name, host, protocol string) Crossing {
	t.Helper()
	var settings struct {
		ConnectionString string `json:"ACR_REGISTRY_CONNECTION_STRING"`
	}
	sh.JSON(t, &settings, "connected-registry", "get-settings", "--name", name,
		"--parent-protocol", protocol, "--generate-password", "1", "--yes")
	endpoint := regexp.MustCompile(`ParentGatewayEndpoint=[^;]*`)
	if !endpoint.MatchString(settings.ConnectionString) {
		t.Fatalf("connection string %q names no parent", settings.ConnectionString)
	}
	return Crossing{name, endpoint.ReplaceAllLiteralString(settings.ConnectionString, "ParentGatewayEndpoint="+host)}
}

// File writes the connection string to a file in the form that editors and
// shells leave behind (a byte-order mark, quotes, line ends), and returns its path.
func (c Crossing) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "connection-string")
	if err := os.WriteFile(path, []byte("\ufeff\""+c.ConnectionString+"\"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Token makes a token with a scope map and returns it as a login that has no
// Host yet.
func Token(t testing.TB, sh *Shell, name, scopeMap string) Login {
	t.Helper()
	var made struct {
		Credentials struct {
			Username  string
			Passwords []struct{ Name, Value string }
		}
	}
	sh.JSON(t, &made, "token", "create", "--name", name, "--scope-map", scopeMap)
	if len(made.Credentials.Passwords) == 0 {
		t.Fatalf("token %s came without a password", name)
	}
	return Login{User: made.Credentials.Username, Password: made.Credentials.Passwords[0].Value}
}

// Options returns o for a connected registry of this crossing.
func (c Crossing) Options(o Options) Options {
	o.Args = append(slices.Clone(o.Args), "--connection-string", c.ConnectionString)
	return o
}
