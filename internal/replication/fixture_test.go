package replication_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"ferry/internal/faultnet"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(replicaDirEnv); dir != "" {
		os.Exit(runReplicaProcess(dir, os.Getenv(replicaParentEnv)))
	}
	goleak.VerifyTestMain(m)
}

// A parent is a registry with a gateway, behind a network with faults.
type parent struct {
	storagetest.Content
	dir     string
	base    *base // nil is SQLite and files in dir
	gateway http.Handler
	network *faultnet.Network
	server  *httptest.Server
	blobs   atomic.Int64                                            // bytes of blobs sent
	onSent  atomic.Value                                            // a func(int64), called with blobs
	dial    func(context.Context, string, string) (net.Conn, error) // nil is the network's
	plans   atomic.Int64                                            // number of plan requests
	ranges  func() bool                                             // whether ranges are supported; nil is yes
	respond func(http.ResponseWriter, *http.Request) bool           // returns true if it answered
	// intercept answers a request instead of its handler; nil calls the handler.
	intercept  func(http.ResponseWriter, *http.Request, http.Handler)
	redirectTo string // URL to which requests for blobs are redirected; "" is none

	subscribed atomic.Pointer[childSubscription] // nil is everything

	mu       sync.Mutex
	stopped  bool // no request is accepted
	inFlight sync.WaitGroup
}

// A base is where a parent keeps its content, instead of files in its directory.
type base struct {
	database string // URL
	blobs    blob.Store
}

func newParent(t testing.TB) *parent {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startParent(t, l, 1, nil)
}

// newPipeParent returns a parent on an in-memory network, for tests in a synctest bubble.
func newPipeParent(t testing.TB) *parent {
	t.Helper()
	return newSeededParent(t, 1, nil)
}

// newSeededParent is [newPipeParent] with the seed of the network's random faults.
func newSeededParent(t testing.TB, seed uint64, on *base) *parent {
	t.Helper()
	pipe := faultnet.NewPipe()
	p := startParent(t, pipe, seed, on)
	p.dial = pipe.Dial
	return p
}

func startParent(t testing.TB, l net.Listener, seed uint64, on *base) *parent {
	t.Helper()
	p := &parent{Content: storagetest.Content{T: t}, dir: t.TempDir(), base: on, network: faultnet.New(seed)}
	p.open()
	t.Cleanup(func() { p.DB.Close() })
	mux := http.NewServeMux()
	mux.HandleFunc("/gateway/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathPlan {
			p.plans.Add(1)
		}
		if p.respond != nil && p.respond(w, r) {
			return
		}
		if r.URL.Path == wire.PathBlobs {
			w = countingWriter{w, p}
		}
		p.gateway.ServeHTTP(w, r)
	})
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		if p.redirectTo != "" {
			http.Redirect(w, r, p.redirectTo+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			return
		}
		p.serveBlob(w, r)
	})
	p.server = p.listen(l, mux.ServeHTTP)
	return p
}

// listen serves the requests that arrive at l through the network, unless the parent is
// stopped.
func (p *parent) listen(l net.Listener, handler http.HandlerFunc) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.accept() {
			panic(http.ErrAbortHandler) // like a port without a listener
		}
		defer p.inFlight.Done()
		if p.intercept != nil {
			p.intercept(w, r, handler)
			return
		}
		handler(w, r)
	}))
	server.Listener.Close()
	server.Listener = p.network.Listen(l)
	server.Start()
	p.T.Cleanup(server.Close)
	p.T.Cleanup(p.network.Cut)
	return server
}

// open opens the parent's storage.
func (p *parent) open() {
	p.T.Helper()
	o := storage.Options{Grace: time.Hour}
	var err error
	if p.base != nil {
		o.Blobs = p.base.blobs
		if o.DB, err = metadb.Open(p.T.Context(), p.base.database); err != nil {
			p.T.Fatal(err)
		}
	}
	if p.Storage, p.DB, err = storagetest.Open(p.T.Context(), p.dir, o); err != nil {
		p.T.Fatal(err)
	}
	p.gateway = gateway.NewServer(gateway.ServerOptions{Storage: p.Storage, ControlPlane: controlPlane{parent: p},
		Authenticate: p.authenticate, Feed: "parent"})
}

// take reports whether a request may be answered, and counts it as in flight.
func (p *parent) accept() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.inFlight.Add(1)
	}
	return !p.stopped
}

func (p *parent) stop(stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = stopped
}

// restart stops the parent and starts it again after d.
func (p *parent) restart(d time.Duration) {
	p.T.Helper()
	p.stop(true)
	p.network.Cut()
	p.inFlight.Wait()
	if err := p.DB.Close(); err != nil {
		p.T.Error(err)
	}
	time.Sleep(d)
	p.open()
	p.stop(false)
}

func (p *parent) serveBlob(w http.ResponseWriter, r *http.Request) {
	if p.respond != nil && p.respond(w, r) {
		return
	}
	repository, d, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	content, info, err := p.OpenBlob(r.Context(), repository, digest.Digest(d))
	if err != nil {
		e := oci.AsError(err)
		if e == nil {
			panic(http.ErrAbortHandler) // the child closed the connection
		}
		oci.WriteError(w, e)
		return
	}
	defer content.Close()
	counted := countingWriter{w, p}
	if p.ranges != nil && !p.ranges() {
		w.Header().Set("Content-Length", fmt.Sprint(info.Size))
		io.Copy(counted, content)
		return
	}
	http.ServeContent(counted, r, "", info.Modified, content)
}

type countingWriter struct {
	http.ResponseWriter
	parent *parent
}

func (w countingWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	sent := w.parent.blobs.Add(int64(n))
	if onSent, ok := w.parent.onSent.Load().(func(int64)); ok {
		onSent(sent)
	}
	return n, err
}

// client returns a client of the parent's gateway.
func (p *parent) client() *gateway.Client {
	transport := gateway.NewTransport()
	transport.Proxy = nil
	if p.dial != nil {
		transport.DialContext = p.dial
	}
	p.T.Cleanup(transport.CloseIdleConnections)
	return newClient(p.address(), transport)
}

func newClient(address string, transport http.RoundTripper) *gateway.Client {
	return gateway.NewClient(wire.ConnectionString{
		Name: "ship", Token: "ship", Password: "x", Endpoint: address, Protocol: "http",
	}, transport)
}

func (p *parent) address() string { return p.server.Listener.Addr().String() }

// image pushes an image with a config of its own.
func (p *parent) image(repository string, layers [][]byte, tags ...string) oci.Descriptor {
	p.T.Helper()
	var name string
	for _, layer := range layers {
		name += string(digest.FromBytes(layer))
	}
	return p.Push(repository, p.Image(repository, fmt.Sprintf(`{"rootfs":%q}`, name), layers...), tags...)
}

// index pushes an index.
func (p *parent) index(repository string, manifests []oci.Descriptor, tags ...string) oci.Descriptor {
	p.T.Helper()
	return p.Push(repository, storagetest.Index(manifests...), tags...)
}

// referrer pushes a manifest with one layer and a subject.
func (p *parent) referrer(repository string, subject oci.Descriptor, layer []byte) oci.Descriptor {
	p.T.Helper()
	m := p.Image(repository, "{}", layer)
	m.Subject = &subject
	return p.Push(repository, m)
}

// A replica syncs from a parent.
type replica struct {
	*storage.Storage
	*replication.Engine
	db     *metadb.DB
	source *gateway.Client
	t      testing.TB
}

func newReplica(t testing.TB, p *parent, o replication.Options) *replica {
	t.Helper()
	s, db, err := storagetest.Open(t.Context(), t.TempDir(), storage.Options{Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	o.Storage, o.DB = s, db
	return &replica{Storage: s, Engine: replication.New(o), db: db, source: p.client(), t: t}
}

// grace is a replica's grace period. It is short, so that leases matter.
const grace = 500 * time.Millisecond

// relist records the listings of all repositories of the parent.
func relist(ctx context.Context, e *replication.Engine, src *gateway.Client) error {
	return poll(ctx, e, src, wire.PollRequest{})
}

// poll polls the parent until the position is current.
func poll(ctx context.Context, e *replication.Engine, src *gateway.Client, q wire.PollRequest) error {
	for {
		q.InstanceID, q.DesiredVersion = "1", "1"
		a, err := src.Poll(ctx, q)
		if err != nil {
			return err
		}
		if _, err := e.ApplyAnswer(ctx, gateway.AnswerOf(a)); err != nil {
			return err
		}
		p, err := e.Position(ctx)
		if err != nil || p.Current() && !a.More {
			return err
		}
		q = gateway.PollRequestOf(p)
	}
}

// follow records the changes at the parent.
func (r *replica) follow() {
	r.t.Helper()
	p, err := r.Position(r.t.Context())
	if err == nil {
		err = poll(r.t.Context(), r.Engine, r.source, gateway.PollRequestOf(p))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// relist records the listings of all repositories of the parent.
func (r *replica) relist() {
	r.t.Helper()
	if err := relist(r.t.Context(), r.Engine, r.source); err != nil {
		r.t.Fatal(err)
	}
}

// want records items in addition to the recorded ones.
func (r *replica) want(repository string, items ...replication.ListedItem) {
	r.t.Helper()
	err := r.ApplyListing(r.t.Context(), replication.Listing{Repository: repository, Short: true, Items: items})
	if err != nil {
		r.t.Fatal(err)
	}
}

// sync runs a Sync in which no item may fail.
func (r *replica) sync() replication.Result {
	r.t.Helper()
	result, err := r.Sync(r.t.Context(), r.source)
	if err != nil || result.Failed > 0 {
		r.t.Fatalf("Sync = %+v, %v; items: %v", result, err, r.items())
	}
	return result
}

// items returns the recorded items as text, in order.
func (r *replica) items() []string {
	r.t.Helper()
	all, err := r.Items(r.t.Context(), metadb.AnySyncItem, "", "", 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	var texts []string
	for _, i := range all {
		texts = append(texts,
			strings.TrimSpace(fmt.Sprintf("%s:%s %.14s %s %s", i.Repository, i.Tag, i.Digest, i.State, i.Error)))
	}
	return texts
}
