package registry_test

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
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

// A directory has the users of a test: the actions of their scope maps, by user name.
type directory map[string][]string

// principals are the parsed users of a directory. Every password is "secret".
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

func (d principals) AuthenticateKey(string, string) (*auth.Principal, error) {
	return nil, auth.ErrUnauthenticated
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

// everyAction has the actions of the user "all".
var everyAction = []string{
	"repositories/*/content/read", "repositories/*/content/write", "repositories/*/content/delete",
	"repositories/*/metadata/read", "repositories/*/metadata/write",
}

// An instance is a registry on loopback, with real storage and real authentication.
type instance struct {
	t        testing.TB
	url      string
	client   *http.Client // nil is the default
	user     string       // of requests; "" is anonymous
	bearer   string       // a token to send instead of the user and password
	storage  *storage.Storage
	handler  http.Handler
	readOnly bool
	lockable error // to requests to change locks
}

func newInstance(t testing.TB) *instance { return newInstanceOn(t, dbtest.SQLite(t), directory{}) }

func newInstanceOn(t testing.TB, db *metadb.DB, users directory, names ...registry.MirrorNames) *instance {
	t.Helper()
	s := &instance{t: t, user: "all", storage: newStorage(t, db)}
	users["all"] = everyAction
	signer, err := auth.NewSigner(auth.NewSigningKey(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	accounts := auth.AuthenticatorOptions{Directory: users.principals(t), Signer: signer}
	content := registry.Options{Storage: s.storage, Writable: s.writable,
		Lockable: func() error { return s.lockable }}
	if p, ok := users["anonymous"]; ok { // has no credentials
		rights, err := auth.ParsePermissions(p)
		if err != nil {
			t.Fatal(err)
		}
		accounts.Anonymous = func(netip.Addr) auth.Permissions { return rights.ToPull() }
	}
	for _, n := range names {
		accounts.StandIn, content.Mirrors = n.StandIn, n
	}
	a := auth.NewAuthenticator(accounts)
	content.Authorizer = a
	s.handler = registry.New(content)
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
	// Each write has a time of its own.
	start, writes := time.Now(), atomic.Int64{}
	now := func() time.Time { return start.Add(time.Duration(writes.Add(1)) * time.Second) }
	return storagetest.New(t, storage.Options{DB: db, Now: now}).Storage
}

// as returns the same registry for another user.
func (s *instance) as(user string) *instance {
	other := *s
	other.user = user
	return &other
}

// An answer is a response with its whole body.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are "Name: value".
func (s *instance) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	return s.send(method, path, r, headers...)
}

func (s *instance) send(method, path string, body io.Reader, headers ...string) answer {
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
	resp, err := cmp.Or(s.client, http.DefaultClient).Do(req)
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

// want fails the test unless the answer has the status and, if a code is given, is an
// error with that code in the specified form. A second code is the message.
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

// json decodes the body into v.
func (a answer) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// pushBlob uploads content in one request.
func (s *instance) pushBlob(repo, content string) digest.Digest {
	s.t.Helper()
	d := digest.FromString(content)
	s.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), content).want(s.t, 201)
	return d
}

// image returns the manifest of an image with a config and layers.
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
func (s *instance) push(repo, tag, content string) (manifest string, d digest.Digest) {
	s.t.Helper()
	manifest = image(s.pushBlob(repo, "{}"), s.pushBlob(repo, content))
	s.do("PUT", "/v2/"+repo+"/manifests/"+tag, manifest, "Content-Type: "+oci.MediaTypeImageManifest).want(s.t, 201)
	return manifest, digest.FromString(manifest)
}

// writable is the answer of a registry that may be ReadOnly.
func (s *instance) writable(string, ...auth.Action) error {
	if s.readOnly {
		return oci.ErrDenied.With("This operation is not allowed on this registry.")
	}
	return nil
}
