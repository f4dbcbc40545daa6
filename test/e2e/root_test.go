//go:build e2e

package e2e

import (
	"testing"

	"ferry/test/site"
)

// startRoot starts a root registry.
func startRoot(t *testing.T) *site.Site {
	t.Helper()
	return site.Start(t, site.Options{})
}

// pushToken makes a token at a root that may do everything with the contents
// of a repository, or of prefix/*.
func pushToken(t *testing.T, root *site.Site, repository string) site.Login {
	t.Helper()
	sh := root.Admin(t, "root")
	sh.Run(t, "scope-map", "create", "--name", "pushers", "--repository", repository,
		"content/read", "content/write", "content/delete", "metadata/read", "metadata/write")
	return token(t, sh, root, "pusher", "pushers")
}

// token makes a token with a scope map and returns it as a login at s, which
// need not be the registry that sh makes it in.
func token(t *testing.T, sh *site.Shell, s *site.Site, name, scopeMap string) site.Login {
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
	return site.Login{Host: s.Host, User: made.Credentials.Username, Password: made.Credentials.Passwords[0].Value}
}
