package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/time/rate"

	"ferry/internal/config"
	"ferry/internal/retry"
)

// acmeTimeout bounds one request to the ACME server.
const acmeTimeout = time.Minute

// acmeRetry is the time after which a certificate that was not issued is requested again. The
// library keeps a failure for a minute.
const acmeRetry = 2 * time.Minute

// acmeCertificates are certificates that an ACME server issues, one for each name. It proves
// that a name leads here with a handshake on the instance's own listener (TLS-ALPN-01).
type acmeCertificates struct {
	manager *autocert.Manager
	names   atomic.Pointer[[]string]
	changed chan struct{} // has an element if there are other names
	log     *slog.Logger
	logs    *rate.Limiter // of failures in handshakes

	expires atomic.Pointer[time.Time] // when the first of the certificates ends, as of the last check
}

// newACME returns the certificates for the names in cfg, which are kept in the data directory.
// It makes no request. When stop ends, its requests end, too.
func newACME(stop context.Context, cfg config.Config, log *slog.Logger) (*acmeCertificates, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if cfg.ACMECA != "" {
		text, err := os.ReadFile(cfg.ACMECA)
		roots := x509.NewCertPool()
		if err == nil && !roots.AppendCertsFromPEM(text) {
			err = fmt.Errorf("%s: no PEM certificate is in it", cfg.ACMECA)
		}
		if err != nil {
			return nil, withHint(fmt.Errorf("read the CA of the ACME server: %w", err),
				"--acme-ca wants a PEM file with the CA that issued the server's own certificate")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	a := &acmeCertificates{changed: make(chan struct{}, 1), log: log, logs: newRefusalLogLimit()}
	a.follow(cfg)
	a.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(filepath.Join(cfg.DataDir, tlsDir, "acme")),
		HostPolicy: func(_ context.Context, host string) error { return a.check(host) },
		Email:      cfg.ACMEEmail,
		Client: &acme.Client{DirectoryURL: cfg.ACMEDirectory, UserAgent: "ferry",
			HTTPClient: &http.Client{Transport: endingTransport{stop, transport}, Timeout: acmeTimeout}},
	}
	return a, nil
}

// follow makes the names those of cfg.
func (a *acmeCertificates) follow(cfg config.Config) {
	names, _ := config.ParseNames(strings.ToLower(cfg.TLSNames)) // Validate has checked them
	a.names.Store(&names)
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// check returns an error unless host is one of the names.
func (a *acmeCertificates) check(host string) error {
	if !slices.Contains(*a.names.Load(), strings.ToLower(host)) {
		return errors.New("this name is not in --tls-names")
	}
	return nil
}

// GetCertificate implements [certificateSource]. A client that names no server, such as a
// probe, gets the certificate of the first name.
func (a *acmeCertificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" {
		named := *hello
		named.ServerName = (*a.names.Load())[0]
		hello = &named
	}
	if err := a.check(hello.ServerName); err != nil { // before the cache, which keeps former names
		return nil, err
	}
	cert, err := a.manager.GetCertificate(hello)
	if err != nil && a.logs.Allow() {
		a.logFailure(hello.ServerName, err)
	}
	return cert, err
}

func (a *acmeCertificates) logFailure(name string, err error) {
	a.log.Error("there is no certificate for a name", "name", name, "err",
		retry.Unanswered(retry.WithoutURL(err), "the ACME server", acmeTimeout), "hint",
		"the ACME server must be reachable, and must reach this listener at port 443 of that name")
}

// run requests the certificates before clients need them, and again until each is issued. The
// library then renews each by itself, a month before its end.
func (a *acmeCertificates) run(ctx context.Context) error {
	for pause := time.Nanosecond; retry.Sleep(ctx, pause, a.changed) == nil; {
		pause = acmeRetry
		missing := false
		var expires time.Time
		for _, name := range *a.names.Load() {
			cert, err := a.manager.GetCertificate(helloFor(name))
			if err != nil && ctx.Err() == nil {
				missing = true
				a.logFailure(name, err)
			}
			if end := endOf(cert); expires.IsZero() || !end.IsZero() && end.Before(expires) {
				expires = end
			}
		}
		a.expires.Store(&expires)
		if !missing {
			pause = 24 * time.Hour
		}
	}
	return nil
}

// An endingTransport ends its requests when stop ends. The library for ACME takes no context.
type endingTransport struct {
	stop context.Context
	http.RoundTripper
}

func (t endingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	context.AfterFunc(t.stop, cancel) // for the few requests of a process, it is never removed
	return t.RoundTripper.RoundTrip(r.WithContext(ctx))
}

// helloFor returns the beginning of a handshake of an up-to-date client.
func helloFor(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
}
