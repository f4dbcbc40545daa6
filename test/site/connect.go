package site

import (
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
// parent at host, which may be a link to it.
func Connect(t testing.TB, sh *Shell, name, host string, repos []string, args ...string) Crossing {
	t.Helper()
	create := slices.Concat([]string{"connected-registry", "create", "--name", name, "--mode", "ReadOnly", "--repository"}, repos, args, []string{"--yes"})
	sh.Run(t, create...)
	var settings struct {
		ConnectionString string `json:"ACR_REGISTRY_CONNECTION_STRING"`
	}
	sh.JSON(t, &settings, "connected-registry", "get-settings", "--name", name,
		"--parent-protocol", "http", "--generate-password", "1", "--yes")
	endpoint := regexp.MustCompile(`ParentGatewayEndpoint=[^;]*`)
	if !endpoint.MatchString(settings.ConnectionString) {
		t.Fatalf("connection string %q names no parent", settings.ConnectionString)
	}
	return Crossing{name, endpoint.ReplaceAllLiteralString(settings.ConnectionString, "ParentGatewayEndpoint="+host)}
}

// Options returns o for a connected registry of this crossing.
func (c Crossing) Options(o Options) Options {
	o.Args = append(slices.Clone(o.Args), "--connection-string", c.ConnectionString)
	return o
}
