package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"ferry/internal/config"
	"ferry/internal/telemetry"
	"ferry/internal/tlsca"
)

// tlsDir is the directory in the data directory that has keys and certificates.
const tlsDir = "tls"

// An ownCA is the CA of an instance, and the publication of its certificates.
type ownCA struct {
	authority *tlsca.Authority
	bundle    *publication
	settings  atomic.Pointer[config.Config]
	log       *slog.Logger
}

// openCA makes the instance serve with a certificate of its own CA.
func (in *instance) openCA(cfg config.Config, publisher CAPublisher) (err error) {
	c := &ownCA{log: in.log}
	c.bundle = newPublication(in.log, "the CA", func(ctx context.Context) error {
		if publisher == nil {
			return nil
		}
		return publisher.Publish(ctx, c.authority.Bundle())
	})
	c.settings.Store(&cfg)
	c.authority, err = tlsca.Open(tlsca.Options{
		Dir:      filepath.Join(cfg.DataDir, tlsDir),
		Name:     hostname(in.control.Self()),
		Names:    func() []string { return serverNames(*c.settings.Load(), in.control.Self()) },
		Earliest: earliest(),
		Changed:  c.bundle.notify,
		Log:      in.log,
	})
	if err == nil {
		in.ca, in.certs = c, c.authority
	}
	return err
}

// earliest returns a time that has passed for certain: that of the commit from which the
// program was built.
func earliest() time.Time {
	if t, err := time.Parse(time.RFC3339, telemetry.ReadBuild().Date); err == nil {
		return t
	}
	return time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
}

// follow makes the certificate have the names that cfg says.
func (c *ownCA) follow(cfg config.Config) {
	c.settings.Store(&cfg)
	if err := c.authority.Refresh(); err != nil {
		c.log.Error("the serving certificate is not renewed", "err", err)
	}
}

// caHandler serves the certificates of the CA to everybody.
func (in *instance) caHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case in.ca == nil:
			writeError(w, http.StatusNotFound, "NOT_FOUND", "this instance has no CA of its own")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the CA can only be read")
		default:
			w.Header().Set("Content-Type", "application/x-pem-file")
			w.Header().Set("Cache-Control", "no-cache")
			_, _ = w.Write(in.ca.authority.Bundle()) // fails only if the client disconnected
		}
	})
}

// hostname returns name or, if that is empty, the name of this machine.
func hostname(name string) string {
	if name == "" {
		name, _ = os.Hostname() // "" if it has none
	}
	return name
}

// serverNames returns the names and addresses for the instance's certificate: those of the
// settings or, without any, all by which clients may know the instance. Clients on this
// machine can always use its loopback addresses.
func serverNames(cfg config.Config, registry string) []string {
	names, _ := config.ParseNames(cfg.TLSNames) // Validate has checked them
	if len(names) == 0 {
		names = discoveredNames(cfg, registry)
	}
	return append(names, "localhost", "127.0.0.1", "::1")
}

func discoveredNames(cfg config.Config, registry string) (names []string) {
	add := func(name string) {
		if ip := net.ParseIP(name); config.IsName(name) && (ip == nil || !ip.IsUnspecified()) {
			names = append(names, name)
		}
	}
	if u, err := url.Parse(cfg.ExternalURL); err == nil {
		add(u.Hostname())
	}
	host, _, _ := net.SplitHostPort(cfg.Listen) // Validate has checked its form
	add(host)
	add(hostname(""))
	add(registry)                    // is often the name of its container or service, too
	addrs, _ := net.InterfaceAddrs() // without them, the other names are left
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			add(n.IP.String())
		}
	}
	return names
}
