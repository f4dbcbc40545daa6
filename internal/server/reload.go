package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/wire"
)

// connectionInterval is how often the file with the connection string is read again.
const connectionInterval = 10 * time.Second

// liveSettings are the settings that a running instance follows. The others need a restart.
var liveSettings = []string{"anonymous", "connection-string", "connection-string-file", "drain-delay",
	"log-level", "max-connections", "metrics",
	"parent-endpoint", "path-prefix", "scrub", "scrub-rate", "scrub-window", "spread", "tls-cert",
	"tls-key", "tls-names", "trusted-proxies"}

// A reloader makes a running instance follow changes of its settings. It stops nothing that
// runs, and changes nothing if a new setting or a new file is wrong.
type reloader struct {
	in         *instance
	o          Options
	cfg        config.Config // that the instance follows
	files      *certificate  // nil unless it serves with a certificate from files
	connection string        // the text that was read last
	failed     string        // the last error of reading it
}

// run follows changes until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	tick := time.NewTicker(cmp.Or(r.o.ConnectionInterval, connectionInterval))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.o.Reload:
			if err := r.reload(); err != nil {
				logHinted(r.in.log, "the settings are not changed; correct them, and send SIGHUP again", err)
			}
		case <-tick.C:
			if r.cfg.ConnectionStringFile != "" && r.in.parent != nil {
				r.followConnection()
			}
		}
	}
}

// reload reads the settings again, checks all of them, and then follows them.
func (r *reloader) reload() error {
	if r.o.Load == nil {
		return nil
	}
	next, err := r.o.Load()
	if err != nil {
		return err
	}
	var restart []string
	changed := slices.DeleteFunc(r.cfg.Changes(next), func(name string) bool {
		if live := slices.Contains(liveSettings, name) && r.keepsKind(next); live {
			return false
		}
		restart = append(restart, name)
		return true
	})
	next = r.cfg.With(next, changed)
	s, err := settingsOf(next)
	if err != nil {
		return err
	}
	schedule, err := scrubSchedule(next)
	if err != nil {
		return err
	}
	var files *certificate
	if r.files != nil {
		if files, err = loadCertificate(next.TLSCert, next.TLSKey, r.in.log); err != nil {
			return err
		}
	}
	connection, text, err := r.readConnection(next)
	if err != nil {
		return err
	}
	// From here on, nothing can fail.
	r.cfg = next
	r.in.settings.Store(s)
	most := maxConnections(next, r.in.parent != nil)
	r.in.connections.configure(most, s.proxies)
	r.in.requests.configure(most, s.proxies)
	r.in.scrub.Reschedule(schedule)
	if files != nil {
		r.files.replace(files)
	}
	if r.in.ca != nil {
		r.in.ca.follow(next)
	}
	if r.in.acme != nil {
		r.in.acme.follow(next)
	}
	if connection != nil {
		r.connect(*connection, text)
	}
	if slices.Contains(changed, "log-level") && r.o.Level != nil {
		r.o.Level.Set(next.LogLevel)
		r.in.upkeep.level.Store(levelOf(next, r.o))
	}
	r.in.log.Info("settings were read again", "changed", strings.Join(changed, ","),
		"needRestart", strings.Join(restart, ","))
	return nil
}

// keepsKind reports whether next makes the same kind of instance, with the same kind of
// certificate.
func (r *reloader) keepsKind(next config.Config) bool {
	connected := next.ConnectionString != "" || next.ConnectionStringFile != ""
	return connected == (r.in.parent != nil) && next.TLSMode() == r.cfg.TLSMode()
}

// readConnection reads the connection string of cfg, and its text. It returns nil if that is
// the one that was read last. One of another connected registry is an error.
func (r *reloader) readConnection(cfg config.Config) (*wire.ConnectionString, string, error) {
	if r.in.parent == nil {
		return nil, "", nil
	}
	c, text, err := parent(cfg)
	if err != nil || text == r.connection && cfg.ParentEndpoint == r.cfg.ParentEndpoint {
		return nil, "", err
	}
	if self := r.in.control.Self(); !strings.EqualFold(c.Name, self) {
		return nil, "", withHint(
			fmt.Errorf("the connection string is for connected registry %s, and the data belongs to %s", c.Name, self),
			fmt.Sprintf("to run %s, start an instance with a --data-dir of its own; to move %s to another machine, "+
				"move its data directory", c.Name, self))
	}
	return c, text, nil
}

// followConnection uses the connection string in its file, if that is another one now. It
// logs each error once.
func (r *reloader) followConnection() {
	c, text, err := r.readConnection(r.cfg)
	if err != nil {
		if r.failed != err.Error() {
			r.failed = err.Error()
			logHinted(r.in.log, "the new connection string is not used; going on with the one before it", err)
		}
		return
	}
	r.failed = ""
	if c != nil {
		r.connect(*c, text)
	}
}

// connect makes the agent use c, which was read from text.
func (r *reloader) connect(c wire.ConnectionString, text string) {
	r.connection = text
	r.in.parent.Connect(c)
	r.in.agent.TryNow()
	r.in.log.Info("the connection string was read again; the next request uses it", "parent", c.Endpoint,
		"token", c.Token)
}

// logHinted logs an error with its hint.
func logHinted(log *slog.Logger, message string, err error) {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		log.Error(message, "err", err, "hint", h.Hint())
		return
	}
	log.Error(message, "err", err)
}
