// Package tlsca keeps a certification authority for one instance, and the certificate with
// which the instance serves. It renews both. Begin with [Open] and [Authority.Run].
//
// Clients trust what [Authority.Bundle] returns. Before a CA ends, the bundle has the next
// one, for two years. The old CA signs until a day before its end, so a client that trusts
// only the old one, or both, can connect at any time.
//
// A machine without a battery starts with a wrong clock, and later sets it. So no CA is
// deleted because it seems to have expired, and after a start, certificates that are not
// valid yet are replaced only after a while; see [patience]. When the clock is right, the CA
// that clients trust signs again.
package tlsca

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ferry/internal/atomicfile"
)

// Ages of certificates.
const (
	caLife    = 10 * 365 * 24 * time.Hour
	caOverlap = 2 * 365 * 24 * time.Hour // for which the next CA is known before the old one ends
	certLife  = 90 * 24 * time.Hour      // of the serving certificate, which is renewed at two thirds
	backdate  = time.Hour                // by which a certificate is valid before it is made, for slow clocks
	handOver  = 24 * time.Hour           // before its end, a CA no longer signs, for fast clocks
)

const (
	// patience is how long after a start certificates of an earlier run may be not valid yet.
	// Usually the clock is wrong until somebody sets it; in the end, it was wrong in that run.
	patience = time.Hour
	// checkInterval is the time between two checks of names and ages.
	checkInterval = time.Minute
	// maxCAs is how many CAs are kept, expired ones included.
	maxCAs = 4
)

// Options are the parts of an [Authority].
type Options struct {
	// Dir has the files. It is created if necessary.
	Dir string
	// Name is in the subject of the CA.
	Name string
	// Names returns the DNS names and IP addresses of the instance, which may change.
	Names func() []string
	// Earliest is a time that has passed for certain, such as that of the program's build.
	// A clock before it is wrong.
	Earliest time.Time
	// Changed is called when the bundle is another; nil is allowed.
	Changed func()
	Log     *slog.Logger
}

// An Authority is the CA of an instance.
type Authority struct {
	o      Options
	opened time.Time

	mu     sync.Mutex
	cas    []*ca // in the order in which they were made
	cert   *tls.Certificate
	signer *ca  // of cert
	loaded bool // cert is of an earlier run
	bundle []byte
}

// Open reads the authority's files, and makes those that are missing or no longer right.
func Open(o Options) (*Authority, error) {
	a := &Authority{o: o, opened: time.Now()}
	if err := a.load(); err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	if err := a.Refresh(); err != nil {
		if a.cert == nil {
			return nil, fmt.Errorf("open CA: %w", err)
		}
		o.Log.Error("the serving certificate is not renewed", "err", err)
	}
	return a, nil
}

// Run renews certificates until ctx ends.
func (a *Authority) Run(ctx context.Context) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := a.refresh(false)
		if err == nil {
			failed = ""
		} else if failed != err.Error() {
			failed = err.Error()
			a.o.Log.Error("the serving certificate is not renewed; trying again every minute", "err", err)
		}
	}
}

// GetCertificate returns the serving certificate, as [tls.Config] wants it.
func (a *Authority) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cert, nil
}

// Bundle returns the certificates of the CAs, as PEM. The one that signs is the first.
func (a *Authority) Bundle() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.bundle)
}

// Fingerprint returns the SHA-256 fingerprint of the first certificate of the bundle, in the
// form in which openssl prints it.
func (a *Authority) Fingerprint() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Fingerprint(a.signer.cert)
}

// Fingerprint returns the SHA-256 fingerprint of a certificate, in the form in which openssl
// prints it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	var pairs []string
	for _, b := range sum {
		pairs = append(pairs, strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return strings.Join(pairs, ":")
}

// Refresh renews what is due, and makes a new serving certificate if the names changed.
func (a *Authority) Refresh() error { return a.refresh(true) }

// refresh does what [Authority.Refresh] says. Unless exact is true, a certificate may have
// names that the instance lacks: addresses of a machine come and go.
func (a *Authority) refresh(exact bool) error {
	names := normalize(a.o.Names())
	a.mu.Lock()
	err := a.renew(names, exact)
	changed := a.setBundle(a.now())
	a.mu.Unlock()
	if changed && a.o.Changed != nil {
		a.o.Changed()
	}
	return err
}

// renew is refresh with a.mu held, except for the bundle.
func (a *Authority) renew(names []string, exact bool) error {
	now := a.now()
	if a.loaded && a.isAhead(now) && time.Since(a.opened) < patience { // by the monotonic clock
		return nil
	}
	err := a.renewCA(now)
	signer := a.signerAt(now)
	if signer == nil {
		return err
	}
	if reason := a.stale(signer, now, names, exact); reason != "" {
		err = errors.Join(err, a.issue(signer, now, names, reason))
	}
	return err
}

// now returns the time. If the clock is certainly wrong, it returns the latest time that is
// known to have passed.
func (a *Authority) now() time.Time {
	now := time.Now()
	if !now.Before(a.o.Earliest) {
		return now
	}
	latest := a.o.Earliest
	made := func(c *x509.Certificate) {
		if t := c.NotBefore.Add(backdate); t.After(latest) {
			latest = t
		}
	}
	for _, c := range a.cas {
		made(c.cert)
	}
	if a.cert != nil {
		made(a.cert.Leaf)
	}
	return latest
}

// isAhead reports whether the serving certificate, or every CA, was made after now.
func (a *Authority) isAhead(now time.Time) bool {
	begun := func(c *ca) bool { return !now.Before(c.cert.NotBefore) }
	return now.Before(a.cert.Leaf.NotBefore) || !slices.ContainsFunc(a.cas, begun)
}

// signerAt returns the oldest CA that may sign; nil if there is none.
func (a *Authority) signerAt(now time.Time) *ca {
	for _, c := range a.cas {
		if c.validAt(now) && c.validAt(now.Add(handOver)) {
			return c
		}
	}
	return nil
}

// renewCA makes a CA if none may sign, or if the last one ends within [caOverlap].
func (a *Authority) renewCA(now time.Time) error {
	for _, c := range a.cas {
		if c.validAt(now) && c.validAt(now.Add(caOverlap)) {
			return nil
		}
	}
	fresh, err := newCA(a.o.Name, now)
	if err != nil {
		return fmt.Errorf("make CA: %w", err)
	}
	cas := append(slices.Clone(a.cas), fresh)
	for len(cas) > maxCAs {
		i := max(0, slices.IndexFunc(cas, func(c *ca) bool { return !c.validAt(now) }))
		cas = slices.Delete(cas, i, i+1)
	}
	if err := saveCAs(a.path(caKeyFile), cas); err != nil {
		return fmt.Errorf("save CA: %w", err)
	}
	a.cas = cas
	a.o.Log.Info("made a CA", "fingerprint", Fingerprint(fresh.cert), "notAfter", fresh.cert.NotAfter)
	return nil
}

// stale returns the reason to replace the serving certificate; "" is none.
func (a *Authority) stale(signer *ca, now time.Time, names []string, exact bool) string {
	switch {
	case a.cert == nil:
		return "there is none"
	case a.signer != signer:
		return "another CA signs"
	}
	leaf := a.cert.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case now.Before(leaf.NotBefore) || now.After(leaf.NotAfter):
		return "it is not valid now"
	case now.After(leaf.NotBefore.Add(life*2/3)) && leaf.NotAfter.Before(signer.cert.NotAfter):
		return "it is old" // one that ends with its CA is replaced with it
	}
	has := namesOf(leaf)
	lacks := func(all, some []string) bool {
		return slices.ContainsFunc(some, func(n string) bool { return !slices.Contains(all, n) })
	}
	if lacks(has, names) || exact && lacks(names, has) {
		return "the names changed"
	}
	return ""
}

// issue makes and saves a serving certificate. It is used even if it cannot be saved.
func (a *Authority) issue(signer *ca, now time.Time, names []string, reason string) error {
	cert, err := signer.issue(names, now)
	if err != nil {
		return fmt.Errorf("make serving certificate: %w", err)
	}
	a.cert, a.signer, a.loaded = cert, signer, false
	a.o.Log.Info("made a TLS certificate", "reason", reason, "names", strings.Join(names, ","),
		"notAfter", cert.Leaf.NotAfter)
	if err := saveCert(a.path(certFile), a.path(keyFile), cert); err != nil {
		return fmt.Errorf("save serving certificate: %w", err)
	}
	return nil
}

// setBundle computes the bundle, and reports whether it changed. The CA that signs is the
// first in it. A CA that expired is not in it if the next one was made before: if no CA was,
// the clock may be wrong, and clients keep what they trust.
func (a *Authority) setBundle(now time.Time) (changed bool) {
	var b []byte
	if a.signer != nil {
		b = encodeCert(a.signer.cert.Raw)
	}
	for i, c := range a.cas {
		followed := slices.ContainsFunc(a.cas[i+1:], func(next *ca) bool { return c.validAt(next.cert.NotBefore) })
		if c != a.signer && (!followed || !now.After(c.cert.NotAfter)) {
			b = append(b, encodeCert(c.cert.Raw)...)
		}
	}
	if slices.Equal(a.bundle, b) {
		return false
	}
	a.bundle = b
	if err := atomicfile.Write(a.path(caFile), b); err != nil { // it is a copy for people
		a.o.Log.Warn("the file with the CA's certificate is not written", "err", err)
	}
	return true
}

func (a *Authority) path(name string) string { return filepath.Join(a.o.Dir, name) }
