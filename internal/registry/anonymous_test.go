package registry_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
)

func TestAnonymousClientsPullAndListOnlyTheirRepositories(t *testing.T) {
	s := newInstanceOn(t, dbtest.SQLite(t), directory{"anonymous": {
		"repositories/a/content/read", "repositories/a/metadata/read", "repositories/b/content/read",
		"repositories/a/content/write", "repositories/a/content/delete", "repositories/a/metadata/write",
	}})
	manifest, d := s.push("a", "v1", "hello")
	for _, repo := range []string{"b", "c"} {
		s.push(repo, "v1", "hello")
	}
	direct, withToken := s.as(""), s.login("", "repository:a:*", "repository:b:pull", "repository:c:pull",
		"registry:catalog:*")
	for _, r := range requests(d, manifest) {
		pulls := r.needs == "content/read" || r.needs == "metadata/read"
		for name, client := range map[string]*instance{"directly": direct, "with a token": withToken} {
			want := 401
			if pulls || r.needs == "" && client == withToken {
				want = 200
			}
			if a := client.do(r.method, r.path, r.body, "Content-Type: "+oci.MediaTypeImageManifest); a.status != want {
				t.Errorf("%s %s: %d %s, want %d", r.name, name, a.status, a.body, want)
			}
		}
	}
	blob := "/blobs/" + digest.FromString("hello").String()
	for _, client := range []*instance{direct, withToken} {
		client.do("GET", "/v2/b"+blob, "").want(t, 200)
		client.do("GET", "/v2/b/tags/list", "").want(t, 401, "UNAUTHORIZED")
		client.do("GET", "/v2/c"+blob, "").want(t, 401, "UNAUTHORIZED")
		client.do("GET", "/v2/none"+blob, "").want(t, 401, "UNAUTHORIZED")
		client.do("GET", "/v2/A/manifests/v1?ns=..", "").want(t, map[bool]int{true: 401, false: 400}[client == direct])
		// A client that has a login may log in for more.
		a := client.do("POST", "/v2/a/blobs/uploads/", "").want(t, 401, "UNAUTHORIZED")
		if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge,
			`scope="repository:a:pull,push"`) {
			t.Errorf("challenge %s", challenge)
		}
	}
	if a := withToken.do("GET", "/v2/_catalog", "").want(t, 200); a.body != `{"repositories":["a","b"]}` {
		t.Errorf("catalog %s", a.body)
	}
}

func TestAnonymousClientsUseTheMirror(t *testing.T) {
	s := newMirror(t, "", "docker.io", directory{"anonymous": {"repositories/docker.io/*/content/read"}})
	s.push("docker.io/library/nginx", "v1", "hello")
	s.push("library/nginx", "v1", "own")
	s.push("docker.io/library/alpine", "v1", "hello")
	anonymous := s.as("")
	const path = "/manifests/v1"
	anonymous.do("GET", "/v2/library/nginx"+path+"?ns=docker.io", "").want(t, 200)
	anonymous.do("GET", "/v2/library/nginx"+path+"?ns=quay.io", "").want(t, 401)
	// Docker requests a token for the repository in the path.
	docker := s.login("", "repository:library/alpine:pull")
	docker.do("GET", "/v2/library/alpine"+path, "").want(t, 200)
	docker.do("GET", "/v2/library/nginx"+path, "").want(t, 401)
	docker.do("GET", "/v2/docker.io/library/alpine"+path, "").want(t, 200)
}
