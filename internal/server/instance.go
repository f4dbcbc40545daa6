package server

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"ferry/internal/auth"
	"ferry/internal/config"
	"ferry/internal/connected"
	"ferry/internal/control"
	"ferry/internal/credential"
	"ferry/internal/download"
	"ferry/internal/events"
	"ferry/internal/fleet"
	"ferry/internal/gateway"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/mirror"
	"ferry/internal/oidc"
	"ferry/internal/registry"
	"ferry/internal/replication"
	"ferry/internal/retention"
	"ferry/internal/scrub"
	"ferry/internal/storage"
	"ferry/internal/storage/blob/s3"
	"ferry/internal/telemetry"
	"ferry/internal/wire"
)

// databaseFile is the default name of the database in the data directory.
const databaseFile = "ferry.db"

// An instance is a registry with all of its parts.
type instance struct {
	log     *slog.Logger
	notices io.Writer
	url     string // for clients on this machine

	dir       *dataDir
	bucket    *s3.Store // nil if blobs are files
	db        *metadb.DB
	cluster   *cluster // nil if no other process serves the same root
	storage   *storage.Storage
	control   *control.Service
	fleet     *fleet.Service
	auth      *auth.Authenticator
	oidc      *oidc.Service      // nil without a provider
	agent     *connected.Agent   // nil in a root
	mirrors   *mirror.Service    // nil in a connected registry
	retention *retention.Service // the same
	events    *events.Service
	upkeep    *upkeep
	scrub     *scrub.Scrubber
	certs     certificateSource // nil without TLS
	ca        *ownCA            // nil unless the instance has a CA
	acme      *acmeCertificates // nil unless an ACME server issues its certificates
	metrics   *telemetry.Metrics
	meter     *download.Meter    // of content that comes from other registries
	traffic   *telemetry.Traffic // of connections to them
	names     registry.MirrorNames
	parent    *gateway.Client // nil in a root
	parentCA  string          // the text of the parent's CA at the start
	// credentials are those for the parent; nil in a root.
	credentials *credential.Store

	settings    atomic.Pointer[settings]
	connections *quota // of the listener
	requests    *quota
}

// settings are those that a running instance follows when they change.
type settings struct {
	readers   string // of metrics, as [config.Config] has it
	spread    func(registries int) time.Duration
	proxies   proxies                     // trusted to name the sender and the address of a request
	redirects proxies                     // networks whose clients fetch blobs from the object store
	prefix    string                      // that proxies put before paths
	external  struct{ host, path string } // of the external URL
	// anonymous reports whether clients may pull without credentials, as far as scope maps allow it.
	anonymous bool

	drainDelay time.Duration
	announce   string // another address of this instance for its children
}

// settingsOf returns the settings in cfg.
func settingsOf(cfg config.Config) (*settings, error) {
	s := &settings{
		readers: cfg.Metrics, anonymous: cfg.Anonymous != config.AnonymousOff, drainDelay: cfg.DrainDelay,
		announce: cfg.AnnounceEndpoint,
	}
	var err error
	if s.announce != "" {
		if err = wire.CheckEndpoint(s.announce); err != nil {
			return nil, fmt.Errorf("announce-endpoint %w", err)
		}
	}
	if s.spread, err = config.ParseSpread(cfg.Spread); err != nil {
		return nil, err
	}
	s.external.host, s.external.path = hostOf(cfg.ExternalURL), pathOf(cfg.ExternalURL)
	s.prefix = cmp.Or(cfg.PathPrefix, s.external.path)
	if s.redirects, err = config.ParseProxies(cfg.BlobRedirect); err != nil {
		return s, err
	}
	s.proxies, err = config.ParseProxies(cfg.TrustedProxies)
	return s, err
}

// parentOf returns the connection string of cfg, and its text; without one, that with which the
// instance in the data directory last reached its parent. nil is a root.
func parentOf(cfg config.Config) (c *wire.ConnectionString, text string, err error) {
	c, text, configErr := parent(cfg)
	if c != nil || configErr != nil && !errors.Is(configErr, os.ErrNotExist) {
		return c, text, configErr
	}
	c, err = credential.Connection(cfg.DataDir)
	switch {
	case c == nil && configErr != nil:
		return nil, "", configErr
	case err != nil:
		return nil, "", withHint(fmt.Errorf("read the stored connection string: %w", err),
			"give the connection string again: --connection-string-file FILE")
	}
	return c, "", nil
}

// needsNoConnection reports whether an error of reading the connection string does no harm: its file was
// removed, and the parent has accepted it before.
func (in *instance) needsNoConnection(err error) bool {
	state, _ := in.credentials.State()
	return errors.Is(err, os.ErrNotExist) && state == credential.Accepted
}

// parent reads the connection string in cfg, or in the file that cfg names, and returns its
// text, too; nil is none.
func parent(cfg config.Config) (c *wire.ConnectionString, text string, err error) {
	const hint = "get one with: " + getSettings
	if text, err = cfg.Connection(); err != nil {
		return nil, "", withHint(err, hint)
	}
	if text == "" {
		return nil, "", nil
	}
	parsed, err := wire.ParseConnectionStringFor(text, cfg.ParentEndpoint)
	if errors.As(err, new(wire.PlaceholderError)) {
		return nil, "", err // it has a hint of its own
	}
	if err != nil {
		return nil, "", withHint(err, hint)
	}
	return &parsed, text, nil
}

// open opens the data directory and the database, and creates the other parts. The data
// directory is locked until close.
func open(
	ctx context.Context, cfg config.Config, parent *wire.ConnectionString, localURL string, o Options,
) (in *instance, err error) {
	in = &instance{log: o.Log, notices: o.Notices, url: localURL, metrics: telemetry.NewMetrics(),
		meter: new(download.Meter), traffic: new(telemetry.Traffic)}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	s, err := settingsOf(cfg)
	if err != nil {
		return in, err
	}
	in.settings.Store(s)
	in.names, err = registry.ParseMirrorNames(cfg.MirrorNames, cfg.MirrorDefault, hostOf(cfg.ExternalURL))
	if err != nil {
		return in, err
	}
	in.requests = newQuota(maxConnections(cfg, parent != nil), s.proxies)
	if in.dir, err = openDataDir(cfg.DataDir, o.Adopt, in.log); err != nil {
		return in, err
	}
	if err := in.openBucket(ctx, cfg); err != nil {
		return in, err
	}
	if in.db, err = openDatabase(ctx, cfg, in.dir, ownershipOf(cfg), in.log); err != nil {
		return in, firstCause(err)
	}
	if err := in.openCluster(ctx, cfg, parent, in.bucket != nil || o.SharedBlobs != nil); err != nil {
		return in, err
	}
	blobs, err := in.openBlobs(cfg, o)
	if err != nil {
		return in, err
	}
	if err := in.openEvents(ctx, cfg, parent); err != nil {
		return in, err
	}
	in.storage, err = storage.New(storage.Options{
		DB: in.db, Blobs: blobs, Locks: in.locks(), Log: in.log, Observe: in.events.ContentChanged,
		SendsUp: parent != nil,
		Grace:   o.Collection.Grace, Orphans: o.Collection.Orphans,
	})
	if err != nil {
		return in, err
	}
	if in.scrub, err = newScrubber(ctx, cfg, in); err != nil {
		return in, err
	}
	resources := control.Options{DB: in.db, Log: in.log, Instance: in.dir.firstID(), Adopt: o.Adopt}
	registries := fleet.Options{DB: in.db, Content: in.storage, Events: in.events,
		Announce: func() string { return in.settings.Load().announce },
		Address:  hostOf(cfg.ExternalURL) + pathOf(cfg.ExternalURL),
		TLS:      strings.HasPrefix(cmp.Or(cfg.ExternalURL, localURL), "https:")}
	if parent != nil {
		resources.Self = parent.Name
		registries.Status = func() (*wire.Status, time.Time) { // called only after the agent exists
			heard := in.agent.LastAnswer() // first: the status may be of a later answer
			return in.agent.Status(), heard
		}
	}
	maxima, err := control.ParseMaxima(cfg.Limits)
	if err != nil {
		return in, err
	}
	resources.Maxima = &maxima
	if in.control, err = control.New(ctx, resources); err != nil {
		return in, err
	}
	if err := in.claimBucket(ctx); err != nil {
		return in, err
	}
	if err := in.dir.claim(in.control.InstanceID()); err != nil {
		return in, err
	}
	if o.SharedBlobs == nil {
		if err := in.recordStore(ctx, blobs, locationOf(cfg)); err != nil {
			return in, err
		}
	}
	registries.Control = in.control
	if in.fleet, err = fleet.New(ctx, registries); err != nil {
		return in, err
	}
	signer, err := in.signer()
	if err != nil {
		return in, err
	}
	people, err := in.openOIDC(cfg, signer)
	if err != nil {
		return in, err
	}
	in.auth = auth.NewAuthenticator(auth.AuthenticatorOptions{
		Directory: in.control.Directory(), Signer: signer, Address: addressFor(cfg.ExternalURL),
		StandIn: in.names.StandIn, Anonymous: in.anonymous, Failed: in.loginFailed,
		People: people,
	})
	in.upkeep = &upkeep{
		storage: in.storage, fleet: in.fleet, keys: in.control, db: in.db, log: in.log, now: time.Now,
		every: o.Collection.Every, started: time.Now(),
	}
	if in.upkeep.auditAge, err = config.ParseRetention(cfg.AuditRetention); err != nil {
		return in, err
	}
	in.upkeep.level.Store(levelOf(cfg, o))
	if parent != nil {
		err = in.follow(ctx, cfg, *parent)
	} else {
		in.retention = in.newRetention()
		err = in.mirror(cfg)
	}
	if err == nil {
		in.followOthers()
		in.observe(ctx, cfg.DataDir)
	}
	return in, err
}

// anonymous returns the rights of a client without credentials. A trusted proxy has none itself: a
// request with its address is one whose sender it did not name, or that names several.
func (in *instance) anonymous(sender netip.Addr) auth.Permissions {
	if s := in.settings.Load(); !s.anonymous || s.proxies.trust(sender) {
		return auth.Permissions{}
	}
	return in.control.Anonymous(sender)
}

// newScrubber makes the scrubber, which reads all stored content regularly.
func newScrubber(ctx context.Context, cfg config.Config, in *instance) (*scrub.Scrubber, error) {
	schedule, err := scrubSchedule(cfg)
	if err != nil {
		return nil, err
	}
	return scrub.New(ctx, scrub.Options{Storage: in.storage, DB: in.db, Log: in.log, Schedule: schedule})
}

func scrubSchedule(cfg config.Config) (s scrub.Schedule, err error) {
	if s.Every, err = config.ParseScrub(cfg.Scrub); err != nil {
		return s, err
	}
	hours, err := config.ParseHours(cfg.ScrubWindow)
	s.Rate, s.Open = cfg.ScrubRate, hours.Has
	return s, err
}

// damaged counts the damaged blobs and manifests, which are not served.
func (in *instance) damaged(ctx context.Context) (int64, error) {
	sum, err := metadb.Read(ctx, in.db, (*metadb.Tx).TotalOfDamages)
	return sum.Count, err
}

// newRetention returns the service that purges content.
func (in *instance) newRetention() *retention.Service {
	return retention.New(retention.Options{
		Storage: in.storage, DB: in.db, Fleet: in.fleet, Log: in.log,
		Note: func(rule, repository string) storage.Note {
			return in.control.AuditNote("purge-rules/"+rule, "", "purge", "repositories/"+repository, "")
		},
	})
}

// mirror creates the service that runs mirror rules.
func (in *instance) mirror(cfg config.Config) error {
	key, err := in.sealKey(cfg, mirror.KeyFile, "give the passwords of mirror rules' sources again")
	if err != nil {
		return err
	}
	in.mirrors = mirror.New(mirror.Options{
		DB: in.db, Storage: in.storage, Key: &mirror.Key{Key: key}, ChunkSize: cfg.ChunkSize, Log: in.log,
		Meter: in.meter, Traffic: in.traffic, Audit: in.control.AuditNote,
	})
	return nil
}

// follow creates the agent that keeps the instance in sync with its parent.
func (in *instance) follow(ctx context.Context, cfg config.Config, parent wire.ConnectionString) (err error) {
	address := loginServer(cfg, in.url)
	engine := replication.New(replication.Options{Storage: in.storage, DB: in.db, Log: in.log,
		ChunkSize: cfg.ChunkSize, Meter: in.meter, Observe: in.events.ItemSynced})
	transport := gateway.NewTransport()
	transport.DialContext = in.traffic.Dial(transport.DialContext)
	in.credentials, err = credential.Open(credential.Options{
		DataDir: cfg.DataDir, Identity: in.control.InstanceID(), Log: in.log,
	})
	if err != nil {
		return err
	}
	if parent != in.credentials.InForce() { // else it is the stored one
		in.credentials.Configure(parent)
	}
	in.parent = gateway.NewClient(in.credentials.Login(), transport)
	var roots *x509.CertPool
	if roots, in.parentCA, err = parentRoots(cfg); err != nil {
		return err
	}
	if roots != nil {
		in.parent.Trust(roots)
	}
	in.agent, err = connected.New(ctx, connected.Options{
		Name:        parent.Name,
		Parent:      in.parent,
		Credentials: in.credentials,
		Storage:     in.storage,
		Audit: func(action, object, detail string) storage.Note {
			return in.control.AuditNote(parent.Name, "", action, object, detail)
		},
		DB:          in.db,
		Engine:      engine,
		InstanceID:  in.control.InstanceID(),
		Fleet:       in.fleet,
		Records:     in.events,
		Version:     telemetry.Version(),
		Content:     in.scrub,
		LoginServer: hostOf(address),
		TLS:         strings.HasPrefix(cmp.Or(address, in.url), "https:"),
		Endpoint:    endpointBelowAPath(address),
		Log:         in.log,

		CertificateDir: certificateDir(cfg),
	})
	return err
}

// certificateDir returns the directory of the instance's certificate; "" if it has none.
func certificateDir(cfg config.Config) string {
	switch cfg.TLSMode() {
	case config.TLSOff:
		return ""
	case config.TLSFiles:
		return filepath.Dir(cfg.TLSCert)
	}
	return filepath.Join(cfg.DataDir, tlsDir)
}

// endpointBelowAPath returns the host and the path of a URL; "" if it has no path.
func endpointBelowAPath(address string) string {
	if path := pathOf(address); path != "" {
		return hostOf(address) + path
	}
	return ""
}

// close closes the parts that open has opened.
func (in *instance) close() {
	if err := in.cluster.close(); err != nil {
		in.log.Error("connection of the cluster is not closed", "err", err)
	}
	if in.db != nil {
		if err := in.db.Close(); err != nil {
			in.log.Error("database is not closed", "err", err)
		}
	}
	if in.dir != nil {
		if err := in.dir.unlock(); err != nil {
			in.log.Error("data directory is not unlocked", "err", err)
		}
	}
}

// role describes the instance for people.
func (in *instance) role() string {
	if in.agent == nil {
		return "root registry"
	}
	return "connected registry"
}

// serve serves requests until ctx ends, and waits for those that still run.
func (in *instance) serve(ctx context.Context, l net.Listener) error {
	ready := &readiness{check: func(ctx context.Context) error {
		_, err := metadb.Read(ctx, in.db, func(tx *metadb.Tx) (string, error) { return tx.Setting("ready") })
		if err == nil && in.bucket != nil {
			err = in.bucket.Reachable(ctx)
		}
		if err == nil && in.cluster != nil {
			err = in.cluster.follower.CatchUp(ctx)
		}
		return err
	}}
	m := newMiddleware(in.routes(ctx, ready).find, in.log, in.metrics)
	m.settings, m.quota = in.settings.Load, in.requests
	srv := newHTTPServer(m, in.log)
	return serveThenDrain(ctx, srv, l, in.log, func() time.Duration {
		ready.draining.Store(true)
		return in.settings.Load().drainDelay
	})
}

// routes returns the instance's APIs. When stop ends, held polls end, too.
func (in *instance) routes(stop context.Context, ready http.Handler) *routes {
	parent := gateway.ServerOptions{
		Storage: in.storage, ControlPlane: in.fleet, Authenticate: in.auth.Basic, Feed: in.control.InstanceID(),
		Suspect: in.scrub.Suspect, Polling: in.fleet.Polling, Receive: in.fleet.Receive, Writable: in.control.Writable,
		Limit: in.auth.Limit,
		AuditNote: func(actor, sender, action, object, detail string) storage.Note {
			return in.control.AuditNote(actor, sender, action, object, detail)
		},
		Log: in.log, Spread: func() time.Duration { return in.settings.Load().spread(in.control.State().Count()) },
	}
	health := &syncHealth{damaged: in.damaged, now: time.Now}
	if in.agent != nil {
		health.agent = in.fleet
		parent.Watermarks, parent.Ready = in.agent.Watermarks, in.fleet.Ready
		parent.WatermarksChanged = in.agent.WatermarksChanged
	}
	if in.mirrors != nil {
		health.rules = in.mirrors
	}
	content := registry.Options{
		Storage: in.storage, Authorizer: in.auth, Writable: in.control.Writable,
		Lockable: in.control.Lockable, Mirrors: in.names,
		Auditor: in.control, Pulled: in.events.Pulled, Version: telemetry.Version(), Log: in.log,
		Redirects: func(sender netip.Addr) bool { return in.settings.Load().redirects.trust(sender) },
	}
	var login http.Handler = http.HandlerFunc(notFound)
	if in.oidc != nil {
		login = in.oidc
	}
	current := in.cluster.current
	managed := management.NewHandler(in.management())
	if in.cluster != nil {
		in.cluster.management = managed
	}
	return &routes{
		login:    current(login),
		registry: current(registry.New(content)),
		token:    current(in.auth.TokenHandler(in.log)),
		gateway:  current(cancelOnStop(stop, wire.PathPoll, gateway.NewServer(parent))),
		api:      current(managed),
		ca:       in.caHandler(),
		live:     http.HandlerFunc(live),
		ready:    ready,
		sync:     health,
		metrics: protectedMetrics(in.metrics, func() string { return in.settings.Load().readers },
			in.auth.Authenticate),
	}
}

// management returns the options of the management API.
func (in *instance) management() management.Options {
	o := management.Options{
		Control: in.control, Fleet: in.fleet, Authenticator: in.auth, Repositories: in.storage,
		Scrubber: in.scrub, Events: in.events, Version: telemetry.Version(), Log: in.log,
		DataDir: in.dir.path,
	}
	if in.cluster != nil {
		o.Pass = in.askLeader
	}
	if in.parent != nil {
		o.ParentURL = in.parent.ParentURL
	}
	if in.ca != nil {
		o.CAFingerprint = in.ca.authority.Fingerprint
	}
	if in.agent != nil {
		o.Syncer = in.agent
	}
	if in.mirrors != nil {
		o.Mirrors, o.Purger = in.mirrors, in.retention
	}
	return o
}

// loginServer returns the address for clients, which the parent shows. It is "" if the
// instance listens on every address of its machine.
func loginServer(cfg config.Config, local string) string {
	if cfg.ExternalURL != "" {
		return cfg.ExternalURL
	}
	host, _, _ := net.SplitHostPort(cfg.Listen) // Validate has checked its form
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return ""
	}
	return local
}

// addressFor returns a function that returns the URL through which the client of a request
// reached this instance. If the host is that of the external URL, so is the scheme, because
// a proxy may have terminated TLS without saying so.
func addressFor(external string) func(*http.Request) string {
	host := hostOf(external)
	return func(r *http.Request) string {
		if host == "" || !strings.EqualFold(r.Host, host) {
			return auth.Address(r)
		}
		scheme, _, _ := strings.Cut(external, "://")
		return scheme + "://" + host + r.Header.Get(auth.HeaderPrefix)
	}
}

// pathOf returns the path of a URL, without a slash at its end; "" of "".
func pathOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "" // cannot happen: Validate has checked it
	}
	return strings.TrimSuffix(u.Path, "/")
}

// hostOf returns the host of a URL, with its port; "" of "".
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "" // cannot happen: Validate has checked it
	}
	return u.Host
}
