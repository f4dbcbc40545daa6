package connected_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/connected"
	"ferry/internal/control"
	"ferry/internal/credential"
	"ferry/internal/faultnet"
	"ferry/internal/fleet"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/registry"
	"ferry/internal/replication"
	"ferry/internal/scrub"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// by is the caller of all changes at the root.
var by = control.Caller{Name: "test"}

// An instance has all its parts, on a link that the test can break. Its
// agent does not run until the test starts it.
type instance struct {
	storagetest.Content
	name    string // "" is the root
	dir     string // of the agent's credentials
	control *control.Service
	fleet   *fleet.Service
	engine  *replication.Engine
	scrub   *scrub.Scrubber // it runs after runScrub
	log     *safeBuffer
	link    *listener
	handler http.Handler

	parent     *instance             // of a site that [instance.connect] made
	connection wire.ConnectionString // to the parent
	stop       func()                // ends the agent that was started last

	password  string       // of the client token that was made last
	requests  atomic.Int64 // received
	sent      atomic.Int64 // bytes of blobs
	received  atomic.Int64 // bytes of blobs that clients sent
	rate      atomic.Int64 // bytes of blobs a second on each connection; 0 is no limit
	refuse    atomic.Bool  // every answer is 503
	ahead     atomic.Int64 // how far the agent's clock is ahead, a [time.Duration]
	agent     *connected.Agent
	follows   atomic.Pointer[connected.Agent] // agent, for the gateway
	announced atomic.Pointer[string]          // the address that it announces to its children
	spread    atomic.Int64                    // the time over which its children spread their requests
	polls     recorder                        // of its agents
}

// newInstance returns an instance that serves in memory.
func newInstance(t testing.TB, name string, db *metadb.DB) *instance {
	t.Helper()
	s := &instance{name: name, dir: t.TempDir(), log: &safeBuffer{}, link: newListener()}
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.Content = storagetest.New(t, storage.Options{DB: db, Log: log, SendsUp: name != ""})
	var err error
	s.control, err = control.New(t.Context(), control.Options{DB: db, Self: name, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if s.fleet, err = fleet.New(t.Context(),
		fleet.Options{DB: db, Control: s.control, Content: s.Storage, Address: "site",
			Announce: func() string {
				if a := s.announced.Load(); a != nil {
					return *a
				}
				return ""
			}}); err != nil {
		t.Fatal(err)
	}
	s.engine = s.newEngine()
	if s.scrub, err = scrub.New(t.Context(), scrub.Options{Storage: s.Storage, DB: db, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %q:\n%s", name, s.log)
		}
	})
	signer, err := auth.NewSigner(auth.NewSigningKey(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	authenticator := auth.NewAuthenticator(auth.AuthenticatorOptions{Directory: s.control.Directory(), Signer: signer})
	parent := gateway.NewServer(gateway.ServerOptions{
		Storage: s.Storage, ControlPlane: s.fleet, Authenticate: authenticator.Basic, Feed: s.control.InstanceID(),
		Log: log,
		Watermarks: func() (map[string]int64, []wire.OutOfSyncItem) {
			if a := s.follows.Load(); a != nil {
				return a.Watermarks()
			}
			return nil, nil
		},
		WatermarksChanged: func() <-chan struct{} {
			if a := s.follows.Load(); a != nil {
				return a.WatermarksChanged()
			}
			return nil
		},
		Polling: s.fleet.Polling,
		Ready:   s.fleet.Ready,
		Spread:  func() time.Duration { return time.Duration(s.spread.Load()) },
		Suspect: s.scrub.Suspect, Writable: s.control.Writable,
		AuditNote: func(actor, sender, action, object, detail string) storage.Note {
			return s.control.AuditNote(actor, sender, action, object, detail)
		},
	})
	content := registry.New(registry.Options{
		Storage: s.Storage, Authorizer: authenticator, Log: log, Writable: s.control.Writable, Auditor: s.control,
	})
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if strings.Contains(r.URL.Path, "/blobs") {
			sent := func(n int) { s.sent.Add(int64(n)) }
			r.Body = &countedBody{r.Body, &s.received}
			w = &faultnet.SlowWriter{ResponseWriter: w, Context: r.Context(), Rate: s.rate.Load, Sent: sent}
		}
		switch {
		case s.refuse.Load():
			http.Error(w, "out of order", http.StatusServiceUnavailable)
		case strings.HasPrefix(r.URL.Path, "/gateway/"):
			parent.ServeHTTP(w, r)
		default:
			content.ServeHTTP(w, r)
		}
	})
	srv := &http.Server{Handler: s.handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(s.link)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	return s
}

// newEngine returns an engine without state, as after the start of a process. It
// has few connections, so that the tests decide the rate. The tests of package
// replication are about the number of connections.
func (s *instance) newEngine() *replication.Engine {
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return replication.New(replication.Options{Storage: s.Storage, DB: s.DB, Log: log, Connections: 4})
}

// newRoot returns a root on SQLite.
func newRoot(t testing.TB) *instance { return newInstance(t, "", dbtest.SQLite(t)) }

// newPair returns a root with the image app/a:v1, and the site ship1, which has synced it. The
// sizes are of the image's layers.
func newPair(t testing.TB, sizes ...int) (root, ship *instance, image digest.Digest) {
	t.Helper()
	root = newRoot(t)
	image = root.push("app/a", "1", "v1", sizes...)
	ship = root.connect("ship1", api.RegistryPut{})
	ship.awaitTag("app/a", "v1", image)
	return root, ship, image
}

// connect makes a connected registry right below s, and returns its site, whose agent runs.
func (s *instance) connect(name string, put api.RegistryPut) *instance {
	s.T.Helper()
	root := s
	for root.parent != nil {
		root = root.parent
	}
	put.Parent = s.name
	child := s.child(name)
	child.parent, child.connection = s, root.connectedRegistry(name, put)
	child.restart()
	return child
}

// restart starts the agent of a site that [instance.connect] made, once the last one has ended.
func (s *instance) restart() {
	s.T.Helper()
	if s.stop != nil {
		s.stop()
	}
	s.parent.start(s, s.connection)
}

// update changes the settings of a connected registry. s must be a root.
func (s *instance) update(name string, c api.Settings) {
	s.T.Helper()
	if _, err := s.fleet.Update(s.T.Context(), by, name, api.RegistryPatch{Settings: c},
		control.Precondition{}); err != nil {
		s.T.Fatal(err)
	}
}

// connectedRegistry makes a connected registry below s, which must be a root, and returns its
// connection string. It syncs app/* unless put says otherwise.
func (s *instance) connectedRegistry(name string, put api.RegistryPut) wire.ConnectionString {
	s.T.Helper()
	if put.Mode == "" {
		put.Mode = "ReadOnly"
	}
	if len(put.Repositories) == 0 && put.SyncToken == "" {
		put.Repositories = []string{"app/*"}
	}
	if _, err := s.fleet.Create(s.T.Context(), by, name, put, control.Precondition{}); err != nil {
		s.T.Fatal(err)
	}
	v, err := s.fleet.InstanceSettings(s.T.Context(), by, name,
		api.SettingsPost{ParentProtocol: "http", GeneratePassword: 1})
	if err != nil {
		s.T.Fatal(err)
	}
	c, err := wire.ParseConnectionString(strings.Replace(v.ConnectionString, "<parent gateway endpoint>", "parent",
		1))
	if err != nil {
		s.T.Fatalf("%q: %v", v.ConnectionString, err)
	}
	return c
}

// clientToken makes a token that may read a repository, and returns its name.
func (s *instance) clientToken(name, repository string) string {
	s.T.Helper()
	m := api.ScopeMapPut{Actions: []string{"repositories/" + repository + "/content/read"}}
	if _, err := s.control.PutScopeMap(s.T.Context(), by, name, m, control.Precondition{}); err != nil {
		s.T.Fatal(err)
	}
	token, err := s.control.PutToken(s.T.Context(), by, name,
		api.TokenPut{ScopeMap: name, Passwords: []api.PasswordPut{{Name: "password1"}}}, control.Precondition{})
	if err != nil {
		s.T.Fatal(err)
	}
	s.password = *token.Credentials.Passwords[0].Value
	return name
}

// child returns the site of a connected registry, without its agent.
func (s *instance) child(name string) *instance { return newInstance(s.T, name, dbtest.SQLite(s.T)) }

// start runs the agent of child below s, until stop or the test's end.
func (s *instance) start(child *instance, c wire.ConnectionString) (stop func()) {
	s.T.Helper()
	return s.startAt(child, c, func(ctx context.Context, _, _ string) (net.Conn, error) { return s.link.dial(ctx) })
}

// startAt is start with a network; nil is the real one.
func (s *instance) startAt(child *instance, c wire.ConnectionString,
	dial func(context.Context, string, string) (net.Conn, error)) (stop func()) {
	s.T.Helper()
	transport := gateway.NewTransport()
	if dial != nil {
		transport.DialContext = dial
	}
	log := slog.New(slog.NewTextHandler(child.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	credentials, err := credential.Open(credential.Options{
		DataDir: child.dir, Identity: child.control.InstanceID(), Log: log, Now: child.now,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	credentials.Configure(c)
	agent, err := connected.New(s.T.Context(), connected.Options{
		Name: c.Name, Parent: recorded{gateway.NewClient(c, transport), &child.polls}, DB: child.DB,
		Credentials: credentials,
		Engine:      child.engine,
		InstanceID:  child.control.InstanceID(), Fleet: child.fleet, Version: "test", LoginServer: "child:5000",
		Log:     log,
		Content: child.scrub, Storage: child.Storage,
		Audit: func(action, object, detail string) storage.Note {
			return child.control.AuditNote(c.Name, "", action, object, detail)
		},
		Now: child.now,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	child.agent = agent
	child.follows.Store(agent)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.T.Errorf("Run = %v, want nil", err)
		}
		transport.CloseIdleConnections()
	})
	child.stop = stop
	s.T.Cleanup(stop)
	return stop
}

// now is the time on the clock of the agent.
func (s *instance) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// push stores an image with layers of the given sizes under a tag. The seed
// decides its content.
func (s *instance) push(repository, seed, tag string, sizes ...int) digest.Digest {
	s.T.Helper()
	var layers [][]byte
	for i, size := range sizes {
		layers = append(layers, bytes.Repeat(fmt.Appendf(nil, "%s %d;", seed, i), size)[:size])
	}
	var tags []string
	if tag != "" {
		tags = append(tags, tag)
	}
	return s.Push(repository, s.Image(repository, "config "+seed, layers...), tags...).Digest
}

// serves reports whether s serves d for a tag or digest; "" is that it serves
// nothing.
func (s *instance) serves(repository, reference string, d digest.Digest) bool {
	m, err := s.Storage.Manifest(s.T.Context(), repository, reference)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return d == ""
	}
	if err != nil {
		s.T.Fatal(err)
	}
	return m.Digest == d
}

// await waits until done returns true.
func await(t testing.TB, condition string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Minute) // longer than any pause between tries
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out while waiting until %s", condition)
		}
	}
}

// awaitTag waits until s serves d for the tag.
func (s *instance) awaitTag(repository, tag string, d digest.Digest) {
	s.T.Helper()
	await(s.T, fmt.Sprintf("%s serves %s:%s", s.name, repository, tag),
		func() bool { return s.serves(repository, tag, d) })
}

// safeBuffer is a log that can be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// count returns how many lines have the text.
func (b *safeBuffer) count(text string) int { return strings.Count(b.String(), text) }

// A listener accepts a site's connections, which are in memory.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	down bool
	// lifetime returns after how many bytes a new connection breaks; nil is never.
	lifetime func() int
	silently bool // broken connections carry nothing more, and stay open at the server
	// delay returns how long a new connection's next read or write waits; nil is not at all.
	delay func() time.Duration
	alive map[net.Conn]bool
	dials int
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), closed: make(chan struct{}), alive: map[net.Conn]bool{}}
}

var errDown = errors.New("network is unreachable")

func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dials++
	if l.down {
		return nil, errDown
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
	case <-l.closed:
		return nil, errDown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.alive[near] = true
	if l.lifetime == nil && l.delay == nil {
		return near, nil
	}
	short := &shortConn{Conn: near, silently: l.silently, delay: l.delay, closed: make(chan struct{})}
	short.left.Store(math.MaxInt64)
	if l.lifetime != nil {
		short.left.Store(int64(l.lifetime()))
	}
	return short, nil
}

// A shortConn is a connection that breaks after some bytes.
type shortConn struct {
	net.Conn
	left     atomic.Int64
	silently bool
	delay    func() time.Duration // before each read and write; nil is none
	closed   chan struct{}        // closed by Close
	once     sync.Once
}

// pause waits as long as the next read or write is delayed. A closed connection does not wait, because
// the clock of testing/synctest stands still once the test has ended.
func (c *shortConn) pause() {
	if c.delay == nil {
		return
	}
	timer := time.NewTimer(c.delay())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.closed:
	}
}

func (c *shortConn) Read(p []byte) (int, error) {
	c.pause()
	n, err := c.Conn.Read(p)
	if c.left.Add(int64(-n)) < 0 {
		c.breakOff()
	}
	return n, err
}

func (c *shortConn) Write(p []byte) (int, error) {
	c.pause()
	left := c.left.Add(int64(-len(p)))
	if left >= 0 {
		return c.Conn.Write(p)
	}
	n, _ := c.Conn.Write(p[:max(int64(len(p))+left, 0)])
	c.breakOff()
	return n, errDown
}

// breakOff ends the connection. If it does so silently, this end waits until it is closed, and the other
// end hears nothing of that.
func (c *shortConn) breakOff() {
	if c.silently {
		<-c.closed
		return
	}
	c.Close()
}

func (c *shortConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	if c.silently && c.left.Load() < 0 {
		return nil
	}
	return c.Conn.Close()
}

// A countedBody counts the bytes of a request.
type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// breakAfter makes new connections break after the number of bytes that lifetime returns; nil is
// never.
func (l *listener) breakAfter(lifetime func() int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lifetime = lifetime
}

// delayBy makes each read and write of new connections wait; nil is not at all.
func (l *listener) delayBy(delay func() time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = delay
}

// fallSilent makes new connections fall silent after a number of bytes.
func (l *listener) fallSilent(after int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lifetime, l.silently = func() int { return after }, true
}

// cut ends every connection, and refuses new ones until restore.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.alive {
		c.Close()
	}
	clear(l.alive)
}

func (l *listener) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// dialled returns the number of dials.
func (l *listener) dialled() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }

// loseBlob removes a blob from a repository, although a manifest needs it.
func (s *instance) loseBlob(repository string, d digest.Digest) error {
	return s.DB.Update(s.T.Context(), func(tx *metadb.Tx) error { return tx.UnlinkBlob(repository, string(d)) })
}
