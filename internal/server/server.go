// Package server is one running instance: it composes the registry, the
// gateway, the management API and, where there is a connection string, the
// agent that follows the parent, and serves them on one listener until its
// context ends.
package server

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"ferry/internal/config"
	"ferry/internal/control"
)

// Options are what an instance gets from the program around it.
type Options struct {
	// Log receives everything that the instance has to say; nil discards it.
	Log *slog.Logger
	// Level is Log's level, which a connected registry sets to what its
	// parent decided, unless its own settings differ from the default; nil
	// leaves the level alone.
	Level *slog.LevelVar
	// Notices receives the lines that are for the person who starts an
	// instance, the first administrator's password among them; nil discards
	// them.
	Notices io.Writer
	// Adopt lets the data directory and the database belong together, whatever they
	// are, and makes anew what the database lacks.
	Adopt bool
	// Ready is called once, when the instance serves; nil is allowed.
	Ready func(Ready)
}

// Ready says where an instance serves.
type Ready struct {
	Addr              net.Addr
	URL               string // of a client on this machine, as http://127.0.0.1:5000
	AdminPasswordFile string // the first administrator's password; the user is "admin"
}

// Run starts the instance that cfg describes and serves until ctx ends, then
// lets running requests finish for a while and returns nil. Every other
// return is an error; where there is something to do about it, it has a
// method Hint that says what. The process' umask is 077 from then on.
func Run(ctx context.Context, cfg config.Config, o Options) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Notices == nil {
		o.Notices = io.Discard
	}
	// What is wrong with the settings, or already in use, is found out before
	// anything is created.
	connection, err := parent(cfg)
	if err != nil {
		return err
	}
	limitMemory(ctx)
	unix.Umask(othersMode) // of the whole process: whatever it writes is for its owner
	l, scheme, err := listen(cfg, connection != nil, o.Log)
	if err != nil {
		return err
	}
	defer l.Close()
	in, err := open(ctx, cfg, connection, localURL(scheme, l.Addr()), o)
	if err != nil {
		return advise(cfg, err)
	}
	defer in.close()

	password, err := in.control.EnsureAdmin(ctx, cfg.DataDir)
	if err != nil {
		return advise(cfg, err)
	}
	local, err := listenLocal(cfg.DataDir)
	if err != nil { // its path is too long, for instance
		o.Log.Warn("no local socket: ferry sync status needs a login", "err", err)
	}
	ready := Ready{Addr: l.Addr(), URL: in.url, AdminPasswordFile: filepath.Join(cfg.DataDir, control.PasswordFile)}
	o.Log.Info("serving", "url", ready.URL, "role", in.role(), "dataDir", cfg.DataDir)
	in.notice(ready, password)
	if o.Ready != nil {
		o.Ready(ready)
	}

	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return in.serve(ctx, l) })
	if local != nil {
		all.Go(func() error { return in.serveLocal(ctx, local) })
	}
	all.Go(func() error { return in.upkeep.run(ctx) })
	all.Go(func() error { return in.scrub.Run(ctx) })
	if in.agent != nil {
		all.Go(func() error { return in.agent.Run(ctx) })
	}
	if in.mirrors != nil {
		all.Go(func() error { return in.mirrors.Run(ctx) })
	}
	return all.Wait()
}

// notice tells the person who started the instance where it is and, once in
// its life, the administrator's password.
func (in *instance) notice(r Ready, password string) {
	fmt.Fprintf(in.notices, "Ferry serves at %s as a %s.\n", r.URL, in.role())
	if password != "" {
		fmt.Fprintf(in.notices, "\nThis is its first start. Its administrator, whose password is shown only now:\n\n")
		fmt.Fprintf(in.notices, "  user      admin\n  password  %s\n\n", password)
		fmt.Fprintf(in.notices, "It is also in %s; delete that file once you have kept it elsewhere.\n",
			r.AdminPasswordFile)
	}
}
