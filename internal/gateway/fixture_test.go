package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// feedName is the name of the fixture's feed.
const feedName = "feed-1"

// A fixture is a parent with the connected registries ship1 and ship2, and the
// client of ship1. Both may read app/*.
type fixture struct {
	storagetest.Content
	controlPlane *controlPlane
	handler      http.Handler
	server       *httptest.Server // nil in a bubble of testing/synctest
	client       *gateway.Client
	later        atomic.Int64                     // seconds by which the parent's clock is ahead
	watermarks   atomic.Pointer[map[string]int64] // of its own ancestors
	lacking      []wire.OutOfSyncItem             // items that fail permanently
	suspects     []digest.Digest                  // that its children reported
}

// run runs test with a new parent on each database.
func run(t *testing.T, test func(t *testing.T, f *fixture)) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) { test(t, newFixture(t, db)) })
}

func newFixture(t testing.TB, db *metadb.DB) *fixture {
	t.Helper()
	return newListingFixture(t, db, 0)
}

// newListingFixture is [newFixture] with a parent that lists about n items in an
// answer; 0 is the default.
func newListingFixture(t testing.TB, db *metadb.DB, n int) *fixture {
	t.Helper()
	f := newParent(t, db, n)
	f.server = httptest.NewServer(f.handler)
	t.Cleanup(f.server.Close)
	f.client = f.as(t, "secret")
	return f
}

// held runs test in a bubble of testing/synctest, with a parent that the client
// calls without a network.
func held(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newParent(t, dbtest.SQLite(t), 0)
		connection := plainHTTP
		connection.Password = "secret"
		f.client = gateway.NewClient(connection, direct{f.handler})
		f.activate(t)
		test(t, f)
	})
}

// direct is a transport that calls a handler in this process.
type direct struct{ http.Handler }

// RoundTrip implements [http.RoundTripper].
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func newParent(t testing.TB, db *metadb.DB, n int) *fixture {
	t.Helper()
	f := &fixture{controlPlane: &controlPlane{
		actions: shipActions("app/*"), desired: wire.Desired{Version: "1"}, holders: map[string]string{},
		changed: make(chan struct{}),
	}}
	f.Content = storagetest.New(t, storage.Options{DB: db, Now: f.now})
	f.watermarks.Store(new(map[string]int64))
	f.handler = gateway.NewServer(gateway.ServerOptions{
		Storage: f.Storage, ControlPlane: f.controlPlane, Authenticate: f.controlPlane.authenticate, Feed: feedName,
		Watermarks: func() (map[string]int64, []wire.OutOfSyncItem) { return *f.watermarks.Load(), f.lacking },
		Suspect:    func(d digest.Digest) { f.suspects = append(f.suspects, d) },
	}.Listing(n))
	return f
}

// now is the parent's clock.
func (f *fixture) now() time.Time {
	return time.Now().Add(time.Duration(f.later.Load()) * time.Second)
}

// as returns ship1's client with a password.
func (f *fixture) as(t testing.TB, password string) *gateway.Client {
	t.Helper()
	transport := gateway.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	return gateway.NewClient(f.connection(password), transport)
}

// second returns ship2's client, activated.
func (f *fixture) second(t testing.TB) *gateway.Client {
	t.Helper()
	c := f.connection("secret")
	c.Name, c.Token = "ship2", "ship2"
	transport := gateway.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	client := gateway.NewClient(c, transport)
	if _, err := client.Activate(t.Context(),
		wire.ActivateRequest{InstanceID: "instance", Version: "test"}); err != nil {
		t.Fatal(err)
	}
	return client
}

func (f *fixture) connection(password string) wire.ConnectionString {
	return wire.ConnectionString{
		Name: "ship1", Token: "ship1", Password: password, Protocol: "http",
		Endpoint: strings.TrimPrefix(f.server.URL, "http://"),
	}
}

func shipActions(repository string) []string {
	return []string{
		"repositories/" + repository + "/content/read", "repositories/" + repository + "/metadata/read",
		"gateway/ship1/config/read", "gateway/ship1/config/write", "gateway/ship1/message/read",
		"gateway/ship1/message/write",
	}
}

// A controlPlane is a control plane that the test sets, with two connected registries
// that have the same desired state.
type controlPlane struct {
	mu      sync.Mutex
	actions []string // of the sync token, as ship1 has it
	desired wire.Desired
	holders map[string]string // activated instances, by connected registry
	reports []*wire.Report
	refused []string      // tokens and codes of logins that were refused
	changed chan struct{} // closed with the next change
}

func (p *controlPlane) set(change func(*controlPlane)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Changed implements [gateway.ControlPlane].
func (p *controlPlane) Changed(string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Refused implements [gateway.ControlPlane].
func (p *controlPlane) Refused(token, from string, why wire.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = append(p.refused, token+" "+from+" "+why.Code)
}

func (p *controlPlane) Version() int64 { return 0 } // the database has none either

func (p *controlPlane) CatchUp(context.Context, int64) error { return nil }

func (p *controlPlane) authenticate(r *http.Request) (*auth.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, password, _ := r.BasicAuth()
	if name != "ship1" && name != "ship2" || password != "secret" {
		return nil, auth.ErrUnauthenticated
	}
	var actions []string
	for _, action := range p.actions {
		actions = append(actions, strings.Replace(action, "gateway/ship1/", "gateway/"+name+"/", 1))
	}
	permissions, err := auth.ParsePermissions(actions)
	return &auth.Principal{Kind: auth.KindToken, Name: name, Permissions: permissions}, err
}

func (p *controlPlane) Activate(_ context.Context, name, instance, _, _ string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case name != "ship1" && name != "ship2":
		return gateway.ErrUnknown
	case p.holders[name] != "" && p.holders[name] != instance:
		return gateway.ErrAlreadyActivated
	}
	p.holders[name] = instance
	return nil
}

func (p *controlPlane) Desired(_ context.Context, name string) (*wire.Desired, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.desired
	d.Self.Name = name
	return &d, nil
}

func (p *controlPlane) Report(_ context.Context, name, instance string, r *wire.Report) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if instance != p.holders[name] {
		return gateway.ErrNotActivated
	}
	if r != nil {
		p.reports = append(p.reports, r)
	}
	return nil
}

// at returns the poll of a child that has recorded everything up to cursor.
func (f *fixture) at(cursor int64) wire.PollRequest {
	f.controlPlane.mu.Lock()
	defer f.controlPlane.mu.Unlock()
	return wire.PollRequest{Feed: feedName, Subscription: gateway.SubscriptionOf(f.controlPlane.desired.Self).ID(),
		Cursor: cursor}
}

// activate activates the client as ship1.
func (f *fixture) activate(t testing.TB) {
	t.Helper()
	if _, err := f.client.Activate(t.Context(),
		wire.ActivateRequest{InstanceID: "instance", Version: "test"}); err != nil {
		t.Fatal(err)
	}
}

// poll sends a poll that is not held, as the activated instance.
func (f *fixture) poll(t testing.TB, q wire.PollRequest) *wire.PollResponse {
	t.Helper()
	q.InstanceID, q.DesiredVersion = "instance", "1"
	a, err := f.client.Poll(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// head returns the feed's highest number.
func (f *fixture) head(t testing.TB) int64 {
	t.Helper()
	var head int64
	err := f.View(t.Context(), func(v *storage.View) (err error) {
		head, _, err = v.FeedHead()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// manifest stores the blobs of an image, and returns the image. The seed decides its content.
func (f *fixture) manifest(repository, seed string) storagetest.Manifest {
	f.T.Helper()
	return f.Image(repository, "config "+seed, []byte("layer "+seed))
}

// image stores an image with one layer. The seed decides its content.
func (f *fixture) image(repository, seed string, tags ...string) digest.Digest {
	f.T.Helper()
	return f.Push(repository, f.manifest(repository, seed), tags...).Digest
}

// referrer stores an image whose subject is d.
func (f *fixture) referrer(repository, seed string, d digest.Digest) digest.Digest {
	f.T.Helper()
	m := f.manifest(repository, seed)
	m.Subject = new(storagetest.Reference(d))
	return f.Push(repository, m).Digest
}

// index stores an index of manifests.
func (f *fixture) index(repository string, manifests []digest.Digest, tags ...string) digest.Digest {
	f.T.Helper()
	index := storagetest.Index()
	for _, d := range manifests {
		index.Manifests = append(index.Manifests, storagetest.Reference(d))
	}
	return f.Push(repository, index, tags...).Digest
}

// signature returns the tag that cosign gives to a signature of d.
func signature(d digest.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".sig" }

// ChangePasswords implements [gateway.ControlPlane].
func (p *controlPlane) ChangePasswords(context.Context, string, string, []wire.PasswordChange) error {
	return nil
}

// Join implements [gateway.ControlPlane].
func (p *controlPlane) Join(context.Context, string, string, string, wire.JoinRequest) error {
	return gateway.ErrJoinRefused
}
