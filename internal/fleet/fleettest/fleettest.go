// Package fleettest runs roots and connected registries for tests. Each has real storage and its
// management API on loopback.
package fleettest

import (
	"bytes"
	"cmp"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/events"
	"ferry/internal/fleet"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/seal"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// Start is the initial time of an instance's clock. The clock moves only when the test moves it.
var Start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// An Instance is a root or a connected registry.
type Instance struct {
	*fleet.Service
	storagetest.Content
	Control  *control.Service
	Events   *events.Service
	Auth     *auth.Authenticator
	URL      string
	Password string // of the user admin
	Log      *bytes.Buffer
	Now      time.Time
	Status   *wire.Status // that a connected registry has of its sync
	Heard    time.Time    // when its parent last answered; zero is now
}

// OnEveryDatabase runs test with a root on each kind of database.
func OnEveryDatabase(t *testing.T, test func(t *testing.T, root *Instance)) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) { test(t, New(t, db, "")) })
}

// NewRoot returns a root on SQLite.
func NewRoot(t *testing.T) *Instance {
	t.Helper()
	return New(t, dbtest.SQLite(t), "")
}

// New returns an instance on db: the connected registry self, or a root if self is "".
func New(t *testing.T, db *metadb.DB, self string) *Instance {
	t.Helper()
	return NewWith(t, control.Options{DB: db, Self: self})
}

// NewWith is like [New], with other options of the control plane.
func NewWith(t *testing.T, o control.Options) *Instance {
	t.Helper()
	db := o.DB
	i := &Instance{Log: &bytes.Buffer{}, Now: Start}
	clock := func() time.Time { return i.Now }
	key, err := seal.OpenKey(t.TempDir(), events.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	i.Events, err = events.New(t.Context(), events.Options{
		DB: db, Registry: o.Self, Key: key, Log: i.logger(), Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	i.Content = storagetest.New(t, storage.Options{DB: db, Now: clock, Observe: i.Events.ContentChanged})
	o.Log, o.Now = i.logger(), clock
	i.Control, err = control.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	i.Service, err = fleet.New(t.Context(), fleet.Options{
		DB: db, Control: i.Control, Content: i.Storage, Now: clock, Events: i.Events,
		Status: func() (*wire.Status, time.Time) { return i.Status, cmp.Or(i.Heard, i.Now) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if i.Password, err = ensureAdmin(t.Context(), db, i.Control, i.Now); err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewSigner(auth.NewSigningKey(), clock)
	if err != nil {
		t.Fatal(err)
	}
	i.Auth = auth.NewAuthenticator(auth.AuthenticatorOptions{
		Directory: i.Control.Directory(), Signer: signer, Now: clock, Failed: i.Control.LoginFailed,
	})
	i.Serve(t, management.Options{})
	return i
}

// Serve serves the management API with the options o, at a new URL.
func (i *Instance) Serve(t *testing.T, o management.Options) {
	t.Helper()
	o.Control, o.Fleet, o.Authenticator, o.Version, o.Log = i.Control, i.Service, i.Auth, "v1.2.3", i.logger()
	o.Events = i.Events
	if o.Repositories == nil {
		o.Repositories = i.Storage
	}
	srv := httptest.NewServer(management.NewHandler(o))
	t.Cleanup(srv.Close)
	i.URL = srv.URL
}

func (i *Instance) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(i.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// MayLogIn reports whether the instance accepts a name and password.
func (i *Instance) MayLogIn(t *testing.T, name, password string) bool {
	t.Helper()
	_, err := i.Control.Directory().Authenticate(t.Context(), name, password)
	if err != nil && !errors.Is(err, auth.ErrUnauthenticated) {
		t.Fatal(err)
	}
	return err == nil
}
