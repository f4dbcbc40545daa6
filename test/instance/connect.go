package instance

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// A Connection is the name and the connection string of a connected registry.
type Connection struct {
	Name             string // of the connected registry
	ConnectionString string
}

// Connect creates a connected registry that syncs repos, at the root to which sh
// is logged in. It syncs continuously unless args say otherwise. It reaches its
// parent by HTTP at host, which may be a link.
func Connect(t testing.TB, sh *Shell, name, host string, repos []string, args ...string) Connection {
	t.Helper()
	create := slices.Concat([]string{"connected-registry", "create", "--name", name, "--mode", "ReadOnly",
		"--repository"}, repos, args, []string{"--yes"})
	sh.Run(t, create...)
	return Settings(t, sh, name, host, "http")
}

// Settings makes a new connection string for a connected registry that exists.
// The protocol is http or https. Passwords of earlier connection strings are no
// longer valid.
func Settings(t testing.TB, sh *Shell, name, host, protocol string) Connection {
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
	return Connection{name, endpoint.ReplaceAllLiteralString(settings.ConnectionString, "ParentGatewayEndpoint="+host)}
}

// File writes the connection string to a file, with a byte-order mark, quotes and
// line ends, as editors and shells add them, and returns the path.
func (c Connection) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "connection-string")
	if err := os.WriteFile(path, []byte("\ufeff\""+c.ConnectionString+"\"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Token creates a token with a scope map, and returns a login with it, without a
// Host.
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

// Options returns o with the connection string.
func (c Connection) Options(o Options) Options {
	o.Args = append(slices.Clone(o.Args), "--connection-string", c.ConnectionString)
	return o
}
