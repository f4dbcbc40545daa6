// Package server is one running instance. It composes the registry, the gateway, the
// management API and, in a connected registry, the agent that syncs from the parent. It
// serves them on one listener until its context ends. Begin with [Run].
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"ferry/internal/config"
	"ferry/internal/control"
	"ferry/internal/storage/blob"
)

// Options are the parts of the process that an instance uses.
type Options struct {
	// Log is the instance's log; nil discards it.
	Log *slog.Logger
	// Level is Log's level. A connected registry sets it to the level in its desired state,
	// unless its own setting differs from the default; nil leaves the level as it is.
	Level *slog.LevelVar
	// Notices receives lines for the person who starts the instance, such as the first
	// administrator's password; nil discards them.
	Notices io.Writer
	// Adopt accepts that the data directory and the database belong together, even if their
	// ids differ, and creates the settings that the database lacks.
	Adopt bool
	// CAPublisher makes the instance's own CA known to others; nil is allowed.
	CAPublisher CAPublisher
	// LoginPublisher makes the login at the parent known to others; nil is allowed. A root has none.
	LoginPublisher LoginPublisher
	// Load reads the settings again, and each element of Reload makes the instance do that. It
	// follows those that can change while it runs, and logs which of the others need a restart.
	Load   func() (config.Config, error)
	Reload <-chan struct{}
	// ConnectionInterval is how often the file with the connection string is read again; 0 is
	// the default.
	ConnectionInterval time.Duration
	// Collection changes the times of garbage collection, for tests; the zero value is the default.
	Collection Collection
	// SharedBlobs has the blobs of a root of several processes, for tests; nil is the setting.
	SharedBlobs blob.Store
	// Ready is called once, when the instance serves; nil is allowed.
	Ready func(Ready)
}

// Collection has the times of garbage collection. A time of 0 is the default.
type Collection struct {
	Every   time.Duration // between collections, instead of the schedule
	Grace   time.Duration // how long content without references is kept
	Orphans time.Duration // how long content without a row is kept
}

// Ready has the address of an instance.
type Ready struct {
	Addr              net.Addr
	URL               string // for clients on this machine, such as http://127.0.0.1:5000
	AdminPasswordFile string // the first administrator's password; the user is "admin"
}

// Run starts the instance that cfg describes, and serves until ctx ends. Then it waits a
// while for running requests and returns nil. An error that a person can solve has a method
// Hint, which says how. Run sets the umask of the process to 077.
func Run(ctx context.Context, cfg config.Config, o Options) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Notices == nil {
		o.Notices = io.Discard
	}
	// Check the settings, and whether the port is free, before anything is created.
	connection, text, err := parentOf(cfg)
	if err != nil {
		return err
	}
	if connection == nil && o.LoginPublisher != nil {
		return withHint(errors.New("pull-secrets are for the login at a parent, and a root has none"),
			"give --connection-string-file, too, or leave --pull-secrets out")
	}
	limitMemory(ctx, connection != nil)
	unix.Umask(othersPermissions) // of the whole process: only the owner may read its files
	var files *certificate
	if cfg.TLSMode() == config.TLSFiles {
		if files, err = loadCertificate(cfg.TLSCert, cfg.TLSKey, o.Log); err != nil {
			return err
		}
	}
	l, err := listen(cfg, connection != nil, o.Log)
	if err != nil {
		return err
	}
	defer l.Close()
	in, err := open(ctx, cfg, connection, localURL(cfg, l.Addr()), o)
	if err != nil {
		return advise(cfg, err)
	}
	defer in.close()

	in.connections = l.quota
	password, err := in.control.EnsureAdmin(ctx, cfg.DataDir)
	if err != nil {
		return advise(cfg, err)
	}
	if files != nil {
		in.certs = files
	}
	if cfg.TLSMode() == config.TLSACME {
		if in.acme, err = newACME(ctx, cfg, o.Log); err != nil {
			return err
		}
		in.certs = in.acme
	}
	if cfg.TLSMode() == config.TLSOwnCA {
		if err := in.openCA(cfg, o.CAPublisher); err != nil {
			return advise(cfg, err)
		}
	}
	local, err := listenLocal(cfg.DataDir)
	if err != nil { // for example, its path is too long
		o.Log.Warn("no local socket: ferry sync status needs a login", "err", err)
	}
	ready := Ready{Addr: l.Addr(), URL: in.url, AdminPasswordFile: filepath.Join(cfg.DataDir, control.PasswordFile)}
	o.Log.Info("serving", "url", ready.URL, "role", in.role(), "dataDir", cfg.DataDir)
	in.notice(ready, password)
	releaseProgram()
	if o.Ready != nil {
		o.Ready(ready)
	}

	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return in.serve(ctx, withTLS(l, in.certs)) })
	if in.acme != nil {
		all.Go(func() error { return in.acme.run(ctx) })
	}
	if in.ca != nil {
		all.Go(func() error { return in.ca.authority.Run(ctx) })
		all.Go(func() error { return in.ca.bundle.run(ctx) })
	}
	if local != nil {
		all.Go(func() error { return in.serveLocal(ctx, local) })
	}
	all.Go(func() error { return in.upkeep.run(ctx) })
	all.Go(func() error {
		return (&reloader{in: in, o: o, cfg: cfg, files: files, connection: text, parentCA: in.parentCA}).run(ctx)
	})
	all.Go(func() error { return in.scrub.RunSuspects(ctx) })
	all.Go(func() error { return in.events.RecordPulls(ctx) })
	all.Go(func() error { return in.fleet.Run(ctx) })
	jobs := []func(context.Context) error{in.upkeep.lead, in.scrub.RunScrubs, in.events.Deliver}
	if in.agent != nil {
		all.Go(func() error { return in.agent.Run(ctx) })
	}
	if o.LoginPublisher != nil {
		all.Go(func() error { return publishLogin(ctx, o.Log, in.credentials, o.LoginPublisher) })
	}
	if in.mirrors != nil {
		jobs = append(jobs, in.mirrors.Run, in.retention.Run)
	}
	all.Go(func() error { return in.runJobs(ctx, jobs...) })
	if in.cluster != nil {
		all.Go(func() error { return in.cluster.follower.Run(ctx) })
		all.Go(func() error { return in.announceFailures(ctx) })
		all.Go(func() error { return in.storage.AnswerUploads(ctx) })
	}
	return advise(cfg, all.Wait())
}

// notice prints the instance's address and, at its first start, the administrator's
// password.
func (in *instance) notice(r Ready, password string) {
	fmt.Fprintf(in.notices, "Ferry serves at %s as a %s.\n", r.URL, in.role())
	if in.ca != nil {
		fmt.Fprintf(in.notices, "Clients must trust its CA, which is at %s/ca.crt.\nSHA-256 fingerprint: %s\n",
			r.URL, in.ca.authority.Fingerprint())
	}
	if password != "" {
		fmt.Fprintf(in.notices, "\nThis is its first start. The administrator's password is shown only now:\n\n")
		fmt.Fprintf(in.notices, "  user      admin\n  password  %s\n\n", password)
		fmt.Fprintf(in.notices, "It is also in %s; delete that file once you have kept it elsewhere.\n",
			r.AdminPasswordFile)
	}
}
