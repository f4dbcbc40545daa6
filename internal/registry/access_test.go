package registry_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
)

// login returns the same registry, for a user with a token from the token endpoint.
func (s *instance) login(user string, scopes ...string) *instance {
	s.t.Helper()
	var token struct{ Token string }
	s.as(user).do("GET", "/oauth2/token?"+url.Values{"service": {"x"}, "scope": scopes}.Encode(), "").want(s.t,
		200).json(s.t, &token)
	other := s.as(user)
	other.bearer = token.Token
	return other
}

// requests returns a request of each kind, with the actions that it needs.
func requests(d digest.Digest, manifest string) []struct{ name, method, path, body, needs string } {
	return []struct{ name, method, path, body, needs string }{
		{"ping", "GET", "/v2/", "", ""},
		{"catalog", "GET", "/v2/_catalog", "", ""},
		{"repositories", "GET", "/acr/v1/_catalog", "", ""},
		{"blob", "GET", "/v2/a/blobs/" + digest.FromString("hello").String(), "", "content/read"},
		{"manifest", "GET", "/v2/a/manifests/v1", "", "content/read"},
		{"manifest's head", "HEAD", "/v2/a/manifests/" + d.String(), "", "content/read"},
		{"referrers", "GET", "/v2/a/referrers/" + d.String(), "", "content/read"},
		{"tags", "GET", "/v2/a/tags/list", "", "metadata/read"},
		{"repository", "GET", "/acr/v1/a", "", "metadata/read"},
		{"tags with attributes", "GET", "/acr/v1/a/_tags", "", "metadata/read"},
		{"tag", "GET", "/acr/v1/a/_tags/v1", "", "metadata/read"},
		{"manifests", "GET", "/acr/v1/a/_manifests", "", "metadata/read"},
		{"manifest's attributes", "GET", "/acr/v1/a/_manifests/" + d.String(), "", "metadata/read"},
		{"upload", "POST", "/v2/a/blobs/uploads/", "", "content/read content/write"},
		{"manifest push", "PUT", "/v2/a/manifests/v2", manifest, "content/read content/write"},
		{"lock of a repository", "PATCH", "/acr/v1/a", "{}", "metadata/write"},
		{"lock of a tag", "PATCH", "/acr/v1/a/_tags/v1", "{}", "metadata/write"},
		{"lock of a manifest", "PATCH", "/acr/v1/a/_manifests/" + d.String(), "{}", "metadata/write"},
		{"untag", "DELETE", "/acr/v1/a/_tags/v2", "", "metadata/write"},
		{"tag's deletion", "DELETE", "/v2/a/manifests/v1", "", "content/delete"},
		{"manifest's deletion", "DELETE", "/acr/v1/a/_manifests/" + d.String(), "", "content/delete"},
		{"blob's deletion", "DELETE", "/v2/a/blobs/" + digest.FromString("hello").String(), "", "content/delete"},
		{"repository's deletion", "DELETE", "/acr/v1/a", "", "content/delete"},
	}
}

func TestEachRequestNeedsOnlyItsActions(t *testing.T) {
	actions := []string{"content/read", "content/write", "content/delete", "metadata/read", "metadata/write"}
	users := directory{"other": {"repositories/b/content/read", "repositories/b/metadata/read",
		"repositories/a/b/content/delete"}}
	for _, missing := range actions {
		for _, a := range actions {
			if a != missing {
				users["without "+missing] = append(users["without "+missing], "repositories/a/"+a)
			}
		}
	}
	s := newInstanceOn(t, dbtest.SQLite(t), users)
	manifest, d := s.push("a", "v1", "hello")
	for _, r := range requests(d, manifest) {
		needs := strings.Fields(r.needs)
		header := "Content-Type: " + oci.MediaTypeImageManifest
		for _, action := range needs {
			name := "without " + action
			s.as(name).do(r.method, r.path, r.body, header).refused(t, r.name+" "+name, r.method)
			s.login(name, "repository:a:*").do(r.method, r.path, r.body, header).refused(t,
				r.name+" with a token "+name, r.method)
		}
		if len(needs) > 0 {
			s.as("other").do(r.method, r.path, r.body, header).refused(t, r.name+" of another repository", r.method)
		}
		if a := s.as("").do(r.method, r.path, r.body, header); a.status != 401 ||
			!strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer realm=") {
			t.Errorf("%s without a login: %d %v", r.name, a.status, a.header)
		}
	}
	for _, r := range requests(d, manifest) {
		// A user without an action that is not needed is allowed.
		user := "without content/delete"
		if strings.Contains(r.needs, "delete") {
			user = "without metadata/read"
		}
		if a := s.as(user).do(r.method, r.path, r.body, "Content-Type: "+oci.MediaTypeImageManifest); a.status >= 300 {
			t.Errorf("%s by an allowed user: %d %s", r.name, a.status, a.body)
		}
		if r.name == "manifest's deletion" {
			s.do("DELETE", "/v2/a/blobs/"+digest.FromString("{}").String(), "").want(t, 202)
		}
	}
}

// refused fails the test unless the answer is the error DENIED of the specification.
func (a answer) refused(t *testing.T, name, method string) {
	t.Helper()
	if a.status != 403 || method != "HEAD" && !strings.Contains(a.body, `"DENIED"`) {
		t.Errorf("%s: %d %s", name, a.status, a.body)
	}
}

func TestInsufficientTokenGetsAChallengeWithScope(t *testing.T) {
	s := newInstance(t)
	manifest, d := s.push("a", "v1", "hello")
	s.push("b", "v1", "other")
	layer := digest.FromString("hello").String()
	for _, c := range []struct{ method, path, scope string }{
		{"GET", "/v2/b/manifests/v1", "repository:b:pull"},
		{"PUT", "/v2/a/manifests/v2", "repository:a:pull,push"},
		{"POST", "/v2/a/blobs/uploads/", "repository:a:pull,push"},
		{"DELETE", "/v2/a/manifests/" + d.String(), "repository:a:delete"},
		{"DELETE", "/acr/v1/a/_tags/v1", "repository:a:metadata_write"},
		// A mount needs both repositories, and its challenge names both.
		{"POST", "/v2/b/blobs/uploads/?mount=" + layer + "&from=a", "repository:b:pull,push"},
	} {
		a := s.login("all", "repository:a:pull").do(c.method, c.path, manifest).want(t, 401, "UNAUTHORIZED")
		challenge := a.header.Get("WWW-Authenticate")
		if !strings.Contains(challenge, `scope="`+c.scope+`"`) ||
			!strings.Contains(challenge, `error="insufficient_scope"`) {
			t.Errorf("%s %s: %s", c.method, c.path, challenge)
		}
	}
	mount := "/v2/b/blobs/uploads/?mount=" + layer + "&from=a"
	a := s.login("all", "repository:b:pull,push").do("POST", mount, "").want(t, 401, "UNAUTHORIZED")
	if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge,
		`scope="repository:b:pull,push repository:a:pull"`) {
		t.Errorf("mount: %s", challenge)
	}
	s.login("all", "repository:b:pull,push repository:a:pull").do("POST", mount, "").want(t, 201)
}

func TestAnonymousClientLearnsNothing(t *testing.T) {
	s := newInstance(t)
	s.push("a", "v1", "hello")
	for _, path := range []string{"/v2/a/manifests/v1", "/v2/b/manifests/v1", "/v2/A/manifests/v1", "/v2/nonsense",
		"/acr/v1/", "/v2/a/blobs/sha256:x"} {
		for _, user := range []string{"", "unknown"} {
			s.as(user).do("GET", path, "").want(t, 401, "UNAUTHORIZED")
		}
	}
}

func TestReadOnlyRegistryRefusesEveryWrite(t *testing.T) {
	s := newInstanceOn(t, dbtest.SQLite(t),
		directory{"reader": {"repositories/*/content/read", "repositories/*/metadata/read"}})
	manifest, d := s.push("a", "v1", "hello")
	location := s.start()
	s.readOnly = true
	const message = "This operation is not allowed on this registry."
	for _, r := range requests(d, manifest) {
		switch a := s.do(r.method, r.path, r.body); {
		case strings.Contains(r.needs, "write") || strings.Contains(r.needs, "delete"):
			a.want(t, 403, "DENIED", message)
			s.as("reader").do(r.method, r.path, r.body).want(t, 403, "DENIED", message)
			s.as("").do(r.method, r.path, r.body).want(t, 401, "UNAUTHORIZED")
		default:
			a.want(t, 200)
		}
	}
	s.do("PATCH", location, "x").want(t, 403, "DENIED", message)
	s.do("PUT", location+"?digest="+d.String(), "x").want(t, 403, "DENIED", message)
	s.readOnly = false
	s.has(location, "0-0")
}
