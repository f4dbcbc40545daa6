package registry_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/registry"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// directory is who exists in a test: actions of a scope map by name.
type directory map[string][]string

// principals are those of a directory, as parsed. Every password is "secret".
type principals map[string]*auth.Principal

func (d directory) principals(t testing.TB) principals {
	t.Helper()
	all := principals{}
	for name, actions := range d {
		p, err := auth.ParsePermissions(actions)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &auth.Principal{Kind: auth.KindToken, Name: name, Permissions: p}
	}
	return all
}

func (d principals) AuthenticateToken(string, string) (*auth.Principal, bool, error) {
	return nil, false, auth.ErrUnauthenticated
}

func (d principals) Authenticate(ctx context.Context, name, password string) (*auth.Principal, error) {
	if password != "secret" {
		return nil, auth.ErrUnauthenticated
	}
	return d.Lookup(ctx, auth.KindToken, name, "")
}

func (d principals) Lookup(_ context.Context, _ auth.Kind, name, _ string) (*auth.Principal, error) {
	if p := d[name]; p != nil {
		return p, nil
	}
	return nil, auth.ErrUnauthenticated
}

// everyAction is what the user "all" may do.
var everyAction = []string{
	"repositories/*/content/read", "repositories/*/content/write", "repositories/*/content/delete",
	"repositories/*/metadata/read", "repositories/*/metadata/write",
}

// A site is a registry that serves on loopback, with real storage and real
// authentication.
type site struct {
	t        testing.TB
	url      string
	user     string // who asks; "" is nobody
	bearer   string // a token to send instead
	storage  *storage.Storage
	handler  http.Handler
	readOnly bool
}

func newSite(t testing.TB) *site { return newSiteOn(t, dbtest.SQLite(t), directory{}) }

func newSiteOn(t testing.TB, db *metadb.DB, users directory) *site {
	t.Helper()
	s := &site{t: t, user: "all", storage: newStorage(t, db)}
	users["all"] = everyAction
	signer, err := auth.NewSigner(auth.NewSigningKey(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	a := auth.NewAuthenticator(auth.AuthenticatorOptions{Directory: users.principals(t), Signer: signer})
	s.handler = registry.New(registry.Options{Storage: s.storage, Authorizer: a,
		Writable: func() bool { return !s.readOnly }})
	tokens := a.TokenHandler(slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth2/token" {
			tokens.ServeHTTP(w, r)
		} else {
			s.handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func newStorage(t testing.TB, db *metadb.DB) *storage.Storage {
	t.Helper()
	// No two writes are at the same time.
	start, writes := time.Now(), atomic.Int64{}
	now := func() time.Time { return start.Add(time.Duration(writes.Add(1)) * time.Second) }
	return storagetest.New(t, storage.Options{DB: db, Now: now}).Storage
}

// as returns the same registry as another user sees it.
func (s *site) as(user string) *site {
	other := *s
	other.user = user
	return &other
}

// An answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request; headers are "Name: value".
func (s *site) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	return s.send(method, path, r, headers...)
}

func (s *site) send(method, path string, body io.Reader, headers ...string) answer {
	s.t.Helper()
	url := path
	if !strings.HasPrefix(path, "http") {
		url = s.url + path
	}
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	switch {
	case s.bearer != "":
		req.Header.Set("Authorization", "Bearer "+s.bearer)
	case s.user != "":
		req.SetBasicAuth(s.user, "secret")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// want fails the test unless the answer has the status and, for an error, is
// of the specification's form with the code.
func (a answer) want(t testing.TB, status int, code ...string) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if len(code) == 0 {
		return a
	}
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Code != code[0] ||
		e.Errors[0].Message == "" {
		t.Fatalf("error %s, want code %s", a.body, code[0])
	}
	if len(code) > 1 && e.Errors[0].Message != code[1] {
		t.Fatalf("message %q, want %q", e.Errors[0].Message, code[1])
	}
	return a
}

// json reads the body into v.
func (a answer) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// pushBlob uploads content in one request.
func (s *site) pushBlob(repo, content string) digest.Digest {
	s.t.Helper()
	d := digest.FromString(content)
	s.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), content).want(s.t, 201)
	return d
}

// image returns a manifest of a config and layers.
func image(config digest.Digest, layers ...digest.Digest) string {
	m := storagetest.Manifest{
		Config: &oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: config, Size: 2},
	}
	for _, l := range layers {
		m.Layers = append(m.Layers,
			oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: l, Size: 5})
	}
	return string(m.Payload())
}

// push pushes an image under a tag and returns its manifest.
func (s *site) push(repo, tag, content string) (manifest string, d digest.Digest) {
	s.t.Helper()
	manifest = image(s.pushBlob(repo, "{}"), s.pushBlob(repo, content))
	s.do("PUT", "/v2/"+repo+"/manifests/"+tag, manifest, "Content-Type: "+oci.MediaTypeImageManifest).want(s.t, 201)
	return manifest, digest.FromString(manifest)
}
