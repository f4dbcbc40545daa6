package server

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/wire"
)

// connectionInterval is how often the file with the connection string is read again.
const connectionInterval = 10 * time.Second

// liveSettings are the settings that a running instance follows. The others need a restart.
var liveSettings = []string{"announce-endpoint", "anonymous", "blob-redirect", "connection-string",
	"connection-string-file", "drain-delay",
	"log-level", "max-connections", "metrics",
	"parent-endpoint", "parent-ca", "path-prefix", "scrub", "scrub-rate", "scrub-window", "spread", "tls-cert",
	"tls-key", "tls-names", "trusted-proxies"}

// kindSettings are the live settings that say which kind of instance this is, and which kind of certificate it
// has. They need a restart, too, if the new settings together would make another kind.
var kindSettings = []string{"connection-string", "connection-string-file", "parent-ca", "parent-endpoint", "tls-cert",
	"tls-key", "tls-names"}

// A reloader makes a running instance follow changes of its settings. It stops nothing that
// runs, and changes nothing if a new setting or a new file is wrong.
type reloader struct {
	in         *instance
	o          Options
	cfg        config.Config // that the instance follows
	files      *certificate  // nil unless it serves with a certificate from files
	connection string        // the text that was read last
	parentCA   string        // the text of the parent's CA that was read last
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
			if r.in.parent != nil && (r.cfg.ConnectionStringFile != "" || r.cfg.ParentCA != "") {
				r.followFiles()
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
		live := slices.Contains(liveSettings, name) && (r.keepsKind(next) || !slices.Contains(kindSettings, name))
		if !live {
			restart = append(restart, name)
		}
		return !live
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
	roots, rootsText, err := parentRoots(next)
	if err != nil {
		return err
	}
	// From here on, nothing can fail.
	r.cfg = next
	r.in.settings.Store(s)
	r.in.control.Wake() // children hear of another announced address at once
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
	if r.in.parent != nil && rootsText != r.parentCA {
		r.trust(roots, rootsText)
	}
	if connection != nil {
		r.connect(*connection, text)
	}
	if quieter := r.o.Level != nil && r.o.Level.Level() < next.LogLevel; quieter {
		r.report(changed, restart) // afterwards it might not be logged
		r.followLevel(changed, next)
		return nil
	}
	r.followLevel(changed, next)
	r.report(changed, restart)
	return nil
}

// followLevel sets the level of the log, if it changed.
func (r *reloader) followLevel(changed []string, cfg config.Config) {
	if slices.Contains(changed, "log-level") && r.o.Level != nil {
		r.o.Level.Set(cfg.LogLevel)
		r.in.upkeep.level.Store(levelOf(cfg, r.o))
	}
}

// report logs which settings changed, and which of them need a restart. Those that need one are logged at every
// level of the log, because whoever sent the signal expects them to be in force.
func (r *reloader) report(changed, restart []string) {
	level := slog.LevelInfo
	switch {
	case len(restart) == 0:
	case r.in.log.Enabled(context.Background(), slog.LevelWarn):
		level = slog.LevelWarn
	default:
		level = slog.LevelError
	}
	r.in.log.Log(context.Background(), level, "settings were read again",
		"changed", strings.Join(changed, ","), "needRestart", strings.Join(restart, ","))
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
	if err != nil && r.in.needsNoConnection(err) {
		return nil, "", nil
	}
	if err != nil || c == nil || text == r.connection && cfg.ParentEndpoint == r.cfg.ParentEndpoint {
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

// followFiles uses the connection string, and the CA of the parent, that are in their files
// now. It logs each error once.
func (r *reloader) followFiles() {
	roots, rootsText, rootsErr := parentRoots(r.cfg)
	c, text, err := r.readConnection(r.cfg)
	if err = errors.Join(err, rootsErr); err != nil {
		if r.failed != err.Error() {
			r.failed = err.Error()
			logHinted(r.in.log, "the new connection string, or CA of the parent, is not used; "+
				"going on with the one before it", err)
		}
		return
	}
	r.failed = ""
	if rootsText != r.parentCA {
		r.trust(roots, rootsText)
	}
	if c != nil {
		r.connect(*c, text)
	}
}

// trust makes the agent trust roots, which were read from text.
func (r *reloader) trust(roots *x509.CertPool, text string) {
	r.parentCA = text
	r.in.parent.Trust(roots)
	r.in.agent.TryNow()
	r.in.log.Info("the CA of the parent was read again; the next connection uses it")
}

// parentRoots returns the authorities of this machine with the CA of the parent, and the
// text of its file; nil if cfg names no file.
func parentRoots(cfg config.Config) (*x509.CertPool, string, error) {
	if cfg.ParentCA == "" {
		return nil, "", nil
	}
	text, err := os.ReadFile(cfg.ParentCA)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
		err = fmt.Errorf("%s: no PEM certificate is in it", cfg.ParentCA)
	}
	if err != nil {
		return nil, "", withHint(fmt.Errorf("read the CA of the parent: %w", err),
			"--parent-ca wants a PEM file; the parent's own CA is at its /ca.crt")
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(text)
	return roots, string(text), nil
}

// connect makes the agent use c, which was read from text.
func (r *reloader) connect(c wire.ConnectionString, text string) {
	r.connection = text
	r.in.credentials.Configure(c)
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
