package registry_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/registry"
)

// newMirror returns a registry with settings for mirrors.
func newMirror(t testing.TB, prefixes, standIn string, users directory) *instance {
	t.Helper()
	names, err := registry.ParseMirrorNames(prefixes, standIn, "ferry.example")
	if err != nil {
		t.Fatal(err)
	}
	return newInstanceOn(t, dbtest.SQLite(t), users, names)
}

// pulled returns the digest of a manifest; "" is an error.
func (s *instance) pulled(path string) string {
	s.t.Helper()
	a := s.do("HEAD", path, "")
	if a.status != 200 {
		return ""
	}
	return a.header.Get("Docker-Content-Digest")
}

func TestMirroredRegistriesAreAnsweredFromTheirRepositories(t *testing.T) {
	s := newMirror(t, "quay.io=mirror/quay/, ghcr.io=gh", "", directory{})
	digests := map[string]string{}
	for _, repo := range []string{"library/app", "docker.io/library/app", "plain/app", "quay.io/team/app",
		"mirror/quay/team/app", "team/app", "docker.io/app", "empty/app"} {
		_, d := s.push(repo, "v1", repo)
		digests[repo] = string(d)
	}
	s.pushBlob("docker.io/empty/app", "a layer, and no image yet")
	for _, c := range []struct{ path, ns, want string }{
		{"library/app", "docker.io", "docker.io/library/app"},
		{"library/app", "DOCKER.io", "docker.io/library/app"},
		{"library/app", "registry-1.docker.io", "docker.io/library/app"},
		{"library/app", "index.docker.io", "docker.io/library/app"},
		{"app", "docker.io", "docker.io/library/app"}, // Docker's short name of it
		{"plain/app", "docker.io", "plain/app"},
		{"none/app", "docker.io", ""},
		{"library/app", "", "library/app"},
		{"library/app", "other.example", "library/app"},
		{"library/app", "other.example:5000", "library/app"},
		{"library/app", "ferry.example", "library/app"},
		{"docker.io/library/app", "", "docker.io/library/app"},
		{"empty/app", "docker.io", "empty/app"},
		// A registry with a prefix is answered from nowhere else.
		{"team/app", "quay.io", "mirror/quay/team/app"},
		{"library/app", "quay.io", ""},
		{"team/app", "ghcr.io", ""},
	} {
		path := "/v2/" + c.path + "/manifests/v1?ns=" + c.ns
		if got := s.pulled(path); got != digests[c.want] {
			t.Errorf("%s: %q, want that of %q, %q", path, got, c.want, digests[c.want])
		}
	}
}

func TestOwnNameOfARegistryChangesNothing(t *testing.T) {
	s := newMirror(t, "", "", directory{})
	_, want := s.push("library/app", "v1", "plain")
	for _, host := range []string{"ferry.example", "edge.example", "other.example"} {
		s.push(host+"/library/app", "v1", "of a mirror")
	}
	for ns, own := range map[string]bool{
		"ferry.example": true, "edge.example": true, "EDGE.example": true, "other.example": false,
	} {
		r := httptest.NewRequest("HEAD", "/v2/library/app/manifests/v1?ns="+ns, nil)
		r.Host = "Edge.example"
		r.SetBasicAuth("all", "secret")
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if got := w.Header().Get("Docker-Content-Digest"); (got == want.String()) != own {
			t.Errorf("%s: %d %s", ns, w.Code, got)
		}
	}
}

func TestEveryKindOfPullKnowsMirroredRegistries(t *testing.T) {
	s := newMirror(t, "", "", directory{})
	_, d := s.push("docker.io/library/app", "v1", "hello")
	s.push("docker.io/library/app", "v2", "hello")
	s.push("library/app", "other", "bye")
	const base = "/v2/library/app/"
	blob := base + "blobs/" + digest.FromString("hello").String()
	s.do("GET", blob, "").want(t, 404, "BLOB_UNKNOWN")
	if a := s.do("GET", blob+"?ns=docker.io", "").want(t, 200); a.body != "hello" {
		t.Errorf("blob %q", a.body)
	}
	s.do("GET", base+"referrers/"+d.String()+"?ns=docker.io", "").want(t, 200)
	s.do("GET", base+"manifests/"+d.String()+"?ns=docker.io", "").want(t, 200)
	var tags struct {
		Name string
		Tags []string
	}
	a := s.do("GET", base+"tags/list?ns=docker.io&n=1", "").want(t, 200)
	a.json(t, &tags)
	if tags.Name != "library/app" || !slices.Equal(tags.Tags, []string{"v1"}) {
		t.Errorf("tags %v", tags)
	}
	next, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	s.do("GET", next, "").want(t, 200).json(t, &tags)
	if !slices.Equal(tags.Tags, []string{"v2"}) {
		t.Errorf("the next page, %s, is %v", next, tags)
	}
	s.do("PATCH", "/acr/v1/docker.io/library/app", `{"readEnabled":false}`).want(t, 200)
	for _, path := range []string{blob, base + "manifests/v1"} {
		s.do("GET", path+"?ns=docker.io", "").want(t, 403, "DENIED")
	}
	s.do("PATCH", "/acr/v1/docker.io/library/app", `{"readEnabled":true}`).want(t, 200)
	s.do("GET", base+"manifests/v3?ns=docker.io", "").want(t, 404, "MANIFEST_UNKNOWN",
		"manifest unknown: v3 of docker.io/library/app")
	s.do("GET", "/v2/none/tags/list?ns=docker.io", "").want(t, 404, "NAME_UNKNOWN",
		oci.ErrNameUnknown.Message+": docker.io/none")
}

func TestPushesIgnoreMirroredRegistries(t *testing.T) {
	s := newMirror(t, "docker.io=hub", "docker.io", directory{})
	manifest, _ := s.push("hub/library/app", "v1", "hello")
	config, layer := digest.FromString("{}").String(), digest.FromString("hello").String()
	for _, d := range []string{config, layer} {
		s.do("POST", "/v2/library/app/blobs/uploads/?ns=docker.io&from=hub/library/app&mount="+d, "").want(t, 201)
	}
	s.do("PUT", "/v2/library/app/manifests/v2?ns=docker.io", manifest,
		"Content-Type: "+oci.MediaTypeImageManifest).want(t, 201)
	s.do("GET", "/v2/library/app/manifests/v2", "").want(t, 200)
	s.do("GET", "/v2/library/app/manifests/v2?ns=docker.io", "").want(t, 404)
	s.do("DELETE", "/v2/library/app/manifests/v2?ns=docker.io", "").want(t, 202)
	s.do("GET", "/v2/hub/library/app/manifests/v1", "").want(t, 200)
}

func TestMalformedRegistryNamesAreRefused(t *testing.T) {
	s := newInstance(t)
	s.push("library/app", "v1", "hello")
	for _, ns := range []string{"docker.io/library", "https://docker.io", "..", "a b", "x:y", "%00", "%zz",
		strings.Repeat("a", 300), "docker.io&ns=quay.io", "docker.io&ns=docker.io"} {
		path := "/v2/library/app/manifests/v1?ns=" + strings.ReplaceAll(ns, " ", "%20")
		s.do("GET", path, "").want(t, 400, "NAME_INVALID")
		s.as("").do("GET", path, "").want(t, 401, "UNAUTHORIZED")
	}
	long := "/v2/" + strings.Repeat("a", 250) + "/manifests/v1?ns="
	s.do("GET", long+"docker.io", "").want(t, 404)
	s = newMirror(t, "docker.io="+strings.Repeat("b", 250), "docker.io", directory{})
	s.do("GET", long+"docker.io", "").want(t, 400, "NAME_INVALID")
	s.do("GET", long, "").want(t, 404)
}

// A client must not find out by ns which repositories exist that it may not read.
func TestMirroredNamesRevealNoRepository(t *testing.T) {
	users := func() directory {
		return directory{
			"plain": {"repositories/library/*/content/read"}, "nobody": {"repositories/x/content/read"},
			"prefixed": {"repositories/docker.io/*/content/read"},
		}
	}
	with, without := newMirror(t, "", "", users()), newMirror(t, "", "", users())
	with.push("docker.io/library/app", "v1", "secret")
	for _, s := range []*instance{with, without} {
		_, plain := s.push("library/app", "v1", "plain")
		const path = "/v2/library/app/manifests/v1?ns=docker.io"
		scope := `scope="repository:docker.io/library/app:pull repository:library/app:pull"`
		if a := s.as("").do("GET", path, "").want(t, 401); !strings.Contains(a.header.Get("WWW-Authenticate"), scope) {
			t.Errorf("challenge %s, want %s", a.header.Get("WWW-Authenticate"), scope)
		}
		s.as("nobody").do("GET", path, "").want(t, 403, "DENIED")
		// The client's own repository answers, whether the other one exists or not.
		if got := s.as("plain").pulled(path); got != string(plain) {
			t.Errorf("%q, want %s", got, plain)
		}
		// A token is for the repositories in it, and for no other.
		if a := s.login("all", "repository:other:pull").do("GET", path, "").want(t, 401); !strings.Contains(
			a.header.Get("WWW-Authenticate"), scope+`,error="insufficient_scope"`) {
			t.Errorf("challenge %s, want %s", a.header.Get("WWW-Authenticate"), scope)
		}
		want := map[bool]int{true: 401, false: 200}[s == with]
		s.login("all", "repository:library/app:pull").do("GET", path, "").want(t, want)
		both := "repository:docker.io/library/app:pull repository:library/app:pull"
		s.login("all", both).do("GET", path, "").want(t, 200)
		s.login("plain", both).do("GET", path, "").want(t, 200)
		s.as("prefixed").do("GET", path, "").want(t, map[bool]int{true: 200, false: 404}[s == with])
	}
	for _, user := range []string{"plain", "nobody", ""} {
		for _, path := range []string{"manifests/v1", "manifests/v2", "blobs/" + digest.FromString("secret").String(),
			"tags/list"} {
			a := with.as(user).do("GET", "/v2/library/app/"+path+"?ns=docker.io", "")
			b := without.as(user).do("GET", "/v2/library/app/"+path+"?ns=docker.io", "")
			if a.status != b.status || a.body != b.body {
				t.Errorf("%q gets two answers to %s: %d %s, %d %s", user, path, a.status, a.body, b.status, b.body)
			}
		}
	}
}

func TestStandInAnswersForMissingRepositories(t *testing.T) {
	s := newMirror(t, "", "docker.io", directory{"puller": {"repositories/docker.io/library/*/content/read",
		"repositories/docker.io/library/*/metadata/read"}})
	_, hub := s.push("docker.io/library/nginx", "v1", "hub")
	_, own := s.push("library/own", "v1", "own")
	s.push("docker.io/library/own", "v1", "hub's")
	for path, want := range map[string]digest.Digest{
		"library/nginx": hub, "nginx": hub, "library/own": own, "docker.io/library/nginx": hub,
	} {
		if got := s.pulled("/v2/" + path + "/manifests/v1"); got != string(want) {
			t.Errorf("%s is %q, want %s", path, got, want)
		}
	}
	s.as("puller").do("GET", "/v2/library/nginx/tags/list", "").want(t, 200)
	// Docker requests a token for the repository in the path, whatever the challenge says.
	s.login("all", "repository:library/nginx:pull").do("GET", "/v2/library/nginx/manifests/v1", "").want(t, 200)
	s.login("puller", "repository:library/nginx:pull").do("GET", "/v2/library/nginx/manifests/v1", "").want(t, 200)
	s.login("all", "repository:library/nginx:push").do("GET", "/v2/library/nginx/manifests/v1", "").want(t, 401)
	s.do("GET", "/v2/library/none/manifests/v1", "").want(t, 404, "MANIFEST_UNKNOWN",
		"manifest unknown: v1 of library/none")
}

func TestSettingsOfMirrorsAreChecked(t *testing.T) {
	for _, c := range [][3]string{
		{"docker.io", "", "want REGISTRY=PREFIX"}, {"docker.io=", "", "want REGISTRY=PREFIX"},
		{"=hub", "", "want REGISTRY=PREFIX"}, {"docker.io=Hub", "", "want REGISTRY=PREFIX"},
		{"https://docker.io=hub", "", "want REGISTRY=PREFIX"},
		{"docker.io=a,index.docker.io=b", "", "docker.io is named twice"},
		{"", "docker.io/x", "not the name of a registry"},
	} {
		if _, err := registry.ParseMirrorNames(c[0], c[1], ""); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%q, %q: %v, want %q", c[0], c[1], err, c[2])
		}
	}
}

// FuzzMirrored sends any query. The repositories that may answer are those in the path, or
// below a registry's prefix.
func FuzzMirrored(f *testing.F) {
	for _, query := range []string{"ns=docker.io", "ns=localhost:5000", "ns=%zz", "ns=a&ns=b", "ns=../x", "n=1"} {
		f.Add(query, "library/app")
	}
	names, err := registry.ParseMirrorNames("quay.io=q", "docker.io", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query, path string) {
		if oci.CheckRepository(path) != nil {
			return
		}
		got, err := registry.Answering(names, &http.Request{Method: "GET", Host: "ferry.example",
			URL: &url.URL{Path: "/v2/" + path + "/manifests/v1", RawQuery: query}})
		if err != nil {
			return
		}
		for _, name := range got {
			if err := oci.CheckRepository(name); err != nil {
				t.Errorf("%q of %s: %v", name, path, err)
			}
			if !strings.HasSuffix(name, path) {
				t.Errorf("%q does not end with %s", name, path)
			}
		}
		if len(got) == 0 || len(got) > 2 || len(got) == 2 && got[0] == got[1] {
			t.Errorf("%q", got)
		}
	})
}

// BenchmarkMirrored measures a manifest whose registry the client names.
func BenchmarkMirrored(b *testing.B) {
	s := newInstance(b)
	s.push("docker.io/library/app", "latest", "hello")
	r := httptest.NewRequest("GET", "/v2/library/app/manifests/latest?ns=docker.io", nil)
	r.Header.Set("Authorization", "Bearer "+
		s.login("all", "repository:docker.io/library/app:pull repository:library/app:pull").bearer)
	w := &nowhere{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		w.status = 0
		s.handler.ServeHTTP(w, r)
		if w.status >= 300 {
			b.Fatal(w.status)
		}
	}
}
