package mirror_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"ferry/internal/mirror"
)

// helperProgram is a credential helper that knows the login of one registry. It answers
// only requests in Docker's form.
const helperProgram = `#!/bin/sh
[ "$1" = get ] && [ "$(cat)" = upstream.example ] || { echo "credentials not found in native keychain"; exit 1; }
echo '{"ServerURL":"upstream.example","Username":"bot","Secret":"hush"}'
`

// requireLogin makes the upstream require this user, with Basic authentication.
func (u *upstream) requireLogin(user, password string) {
	u.set(func() {
		u.before = func(w http.ResponseWriter, r *http.Request) bool {
			if name, secret, _ := r.BasicAuth(); name == user && secret == password {
				return false
			}
			w.Header().Set("Www-Authenticate", `Basic realm="upstream"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
	})
}

// dockerConfig makes text the configuration of Docker, and installs a credential helper x.
func dockerConfig(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"config.json": text, "docker-credential-x": helperProgram} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// dockerLogin is the configuration of Docker after "docker login" as bot.
func dockerLogin(server string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, server, base64.StdEncoding.EncodeToString([]byte("bot:hush")))
}

func TestImportUsesDockerLogins(t *testing.T) {
	for name, v := range map[string]struct{ config, source string }{
		"in the configuration": {dockerLogin("upstream.example"), "upstream.example/library/app:1"},
		"by a helper":          {`{"credHelpers":{"upstream.example":"x"}}`, "upstream.example/library/app:1"},
		"for Docker Hub":       {dockerLogin("https://index.docker.io/v1/"), "docker.io/app:1"},
	} {
		t.Run(name, func(t *testing.T) {
			dockerConfig(t, v.config)
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				d := h.upstream.image("library/app", "one", 10, "1")
				h.upstream.requireLogin("bot", "hush")
				i := h.runImport(t, mirror.ImportRequest{Source: "http://" + v.source, Images: []string{"app:1"}})
				if i.State != mirror.ImportSucceeded || h.tags("app")["1"] != d {
					t.Errorf("%+v", i)
				}
				// A login is not used for another registry, nor combined with another login.
				for _, q := range []mirror.ImportRequest{
					{Source: "http://elsewhere.example/library/app:1", Images: []string{"elsewhere:1"}},
					{Source: "http://" + v.source, Images: []string{"other:1"}, Username: "other", Password: "x"},
				} {
					if i := h.runImport(t, q); i.State != mirror.ImportFailed ||
						!strings.Contains(i.Problem, "UNAUTHORIZED") {
						t.Errorf("%+v", i)
					}
				}
			})
		})
	}
}

func TestRuleUsesDockerLogins(t *testing.T) {
	dockerConfig(t, dockerLogin("upstream.example"))
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.upstream.requireLogin("bot", "hush")
		h.rule(mirror.Spec{})
		if row := h.runRule(); row.Error != "" || h.tags("local/app")["1"] != d {
			t.Errorf("%+v", row)
		}
	})
}
