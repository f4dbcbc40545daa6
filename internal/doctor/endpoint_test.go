package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"ferry/internal/faultnet"
)

// An authority makes certificates for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-10 * 365 * 24 * time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
	}
	a.key, a.cert = sign(t, c, nil, nil)
	return a
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// config returns the settings of a server with a good certificate.
func (a *authority) config(t *testing.T) *tls.Config {
	now := time.Now()
	cert := a.certificate(t, "127.0.0.1", now.Add(-time.Hour), now.Add(1000*time.Hour))
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// certificate makes a certificate for a name or an address.
func (a *authority) certificate(t *testing.T, name string, from, to time.Time) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	key, cert := sign(t, c, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// sign makes a key, and the certificate c for it; without a parent, it signs itself.
func sign(t *testing.T, c, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, by = c, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// serve starts a server, with TLS unless c is nil.
func serve(t *testing.T, h http.HandlerFunc, c *tls.Config) *url.URL {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if c == nil {
		s.Start()
	} else {
		s.TLS = c
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// fakeRegistry answers like a registry that wants a login.
func fakeRegistry(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Basic realm="ferry"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// expect fails the test unless a finding has a status, and its text and remedy have these parts.
func expect(t *testing.T, got Finding, status Status, parts ...string) {
	t.Helper()
	if got.Status != status {
		t.Errorf("status %s, want %s: %+v", got.Status, status, got)
	}
	for _, part := range parts {
		if !strings.Contains(got.Text+"\n"+got.Remedy, part) {
			t.Errorf("%+v does not have %q", got, part)
		}
	}
	if (got.Status == Warn || got.Status == Fail) && got.Remedy == "" {
		t.Errorf("no remedy: %+v", got)
	}
}

// result runs the checks of an endpoint and returns the finding of one.
func result(t *testing.T, e *Endpoint, name string) Finding {
	t.Helper()
	for _, r := range runChecks(t.Context(), e.checks()) {
		if r.Check == name {
			return r.Finding
		}
	}
	t.Fatalf("there is no check %s", name)
	return Finding{}
}

func TestCertificateProblemsAreNamed(t *testing.T) {
	a, day, now := newAuthority(t), 24*time.Hour, time.Now()
	from, to := now.Add(-90*day), now.Add(90*day)
	good := a.certificate(t, "127.0.0.1", from, to)
	for _, test := range []struct {
		name   string
		config *tls.Config
		roots  *x509.CertPool
		status Status
		parts  []string
	}{
		{"good", &tls.Config{Certificates: []tls.Certificate{good}}, a.roots(), OK, []string{"test authority"}},
		{"wrong name", &tls.Config{Certificates: []tls.Certificate{a.certificate(t, "other.example", from, to)}},
			a.roots(), Fail, []string{"not for 127.0.0.1, but for other.example", "--tls-names"}},
		{"expired", &tls.Config{Certificates: []tls.Certificate{a.certificate(t, "127.0.0.1", from, now.Add(-day))}},
			a.roots(), Fail, []string{"expired at", "clock"}},
		{"not yet valid", &tls.Config{Certificates: []tls.Certificate{a.certificate(t, "127.0.0.1", now.Add(day), to)}},
			a.roots(), Fail, []string{"valid only from", "clock"}},
		{"expires soon", &tls.Config{Certificates: []tls.Certificate{
			a.certificate(t, "127.0.0.1", from, now.Add(3*day))}}, a.roots(), Warn, []string{"expires at"}},
		{"half of a short life", &tls.Config{Certificates: []tls.Certificate{
			a.certificate(t, "127.0.0.1", now.Add(-3*day), now.Add(3*day))}}, a.roots(), OK, nil},
		{"unknown authority", &tls.Config{Certificates: []tls.Certificate{good}}, x509.NewCertPool(), Fail,
			[]string{"does not know the authority", "--ca", "https://127.0.0.1:", "/ca.crt"}},
		{"old version only", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10,
			MaxVersion: tls.VersionTLS11}, a.roots(), Fail, []string{"TLS 1.1", "TLS 1.2"}},
		{"old version, too", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10},
			a.roots(), Warn, []string{"TLS 1.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := serve(t, fakeRegistry, test.config)
			got := result(t, &Endpoint{Role: "parent", URL: u, Roots: test.roots}, "tls")
			expect(t, got, test.status, test.parts...)
		})
	}
}

func TestWrongSchemeIsNamed(t *testing.T) {
	a := newAuthority(t)
	plain := serve(t, fakeRegistry, nil)
	expect(t, result(t, &Endpoint{URL: plain}, "tls"), OK, "on this machine")
	plain.Scheme = "https"
	expect(t, result(t, &Endpoint{URL: plain}, "tls"), Fail, "plain HTTP", "use http://")

	secure := serve(t, fakeRegistry, a.config(t))
	secure.Scheme = "http"
	expect(t, result(t, &Endpoint{URL: secure}, "tls"), Fail, "speaks TLS", "use https://")
}

// No login may reach a server whose certificate is not valid.
func TestInvalidCertificateGetsNoLogin(t *testing.T) {
	a := newAuthority(t)
	cert := a.certificate(t, "other.example", time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour))
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the server got a login")
		}
		fakeRegistry(w, r)
	}, &tls.Config{Certificates: []tls.Certificate{cert}})
	login := Login{Kind: "token", Name: "line1", Password: "geheim"}
	got := runChecks(t.Context(), (&Endpoint{URL: u, Roots: a.roots(), Login: login}).checks())
	if text := fmt.Sprintf("%+v %#v %v", got, login, login); strings.Contains(text, "geheim") {
		t.Errorf("the password is in %s", text)
	}
	if s := statuses(got); s["tls"] != Fail || s["login"] != Skipped || s["clock"] != OK {
		t.Errorf("%+v", got)
	}
}

func TestUnreachableAddressesAreReported(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	expect(t, result(t, &Endpoint{URL: &url.URL{Scheme: "http", Host: closed}}, "route"), Fail,
		"nothing listens at "+closed)
	expect(t, result(t, &Endpoint{URL: &url.URL{Scheme: "http", Host: "nosuch.invalid"}}, "name"), Fail)
}

func TestSilentAddressFailsAtTheDeadline(t *testing.T) {
	address, closed, err := faultnet.Silent()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("a silent address is possible only on Linux")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer closed()
	e := &Endpoint{hostPort: address.String(), addrs: []netip.Addr{address.Addr()}}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	expect(t, e.checkRoute(ctx), Fail, "does not answer within", "firewall")
}

func TestServerWithoutAnAnswerIsReported(t *testing.T) {
	u := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	e := &Endpoint{URL: u}
	expect(t, e.checkTLS(ctx), Fail, "no answer within", "the port accepts connections")

	u = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := http.NewResponseController(w).Hijack()
		c.Close()
	}, nil)
	expect(t, (&Endpoint{URL: u}).checkTLS(t.Context()), Fail, "closes the connection")
}

func TestSkewOfClocksIsJudged(t *testing.T) {
	for _, test := range []struct {
		ahead  time.Duration // of the server's clock
		status Status
		text   string
	}{
		{0, OK, "agree"},
		{20 * time.Second, OK, "agree"},
		{time.Minute, Warn, "behind"},
		{-time.Minute, Warn, "ahead of"},
		{time.Hour, Fail, "behind"},
		{-10 * 365 * 24 * time.Hour, Fail, "ahead of"},
	} {
		t.Run(test.ahead.String(), func(t *testing.T) {
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(test.ahead).UTC().Format(http.TimeFormat))
				fakeRegistry(w, r)
			}, nil)
			expect(t, result(t, &Endpoint{URL: u}, "clock"), test.status, test.text)
		})
	}
	expect(t, judgeClock(&answer{header: http.Header{}}), Skipped, "no time")
	expect(t, judgeClock(&answer{header: http.Header{"Date": {"yesterday"}}}), Skipped, "cannot be read")
}

func TestRefusedLoginsAreExplained(t *testing.T) {
	basic := http.Header{"Www-Authenticate": {`Basic realm="ferry"`}}
	bearer := func(host string) http.Header {
		return http.Header{"Www-Authenticate": {`Bearer realm="https://` + host + `/token"`}}
	}
	line1 := Login{Kind: "token", Name: "line1", Password: "geheim", Remedy: "make a new password"}
	for _, test := range []struct {
		name   string
		a      answer
		login  Login
		status Status
		parts  []string
	}{
		{"accepted", answer{status: 200}, line1, OK, []string{"token line1 is accepted"}},
		{"no login needed", answer{status: 200}, Login{}, OK, []string{"everybody"}},
		{"no login given", answer{status: 401, header: basic}, Login{}, Skipped, nil},
		{"refused", answer{status: 401, header: basic}, line1, Fail, []string{"not accepted", "make a new password"}},
		{"refused by this host's tokens", answer{status: 401, header: bearer("home.example")}, line1, Fail, nil},
		{"tokens of another host", answer{status: 401, header: bearer("auth.example")}, line1, Skipped, nil},
		{"slowed down", answer{status: 429, header: http.Header{"Retry-After": {"6"}}}, line1, Fail, []string{"6 s"}},
		{"broken", answer{status: 502}, line1, Fail, []string{"502 Bad Gateway", "proxy"}},
		{"moved", answer{status: 301, header: http.Header{"Location": {"https://new.example"}}}, line1, Fail,
			[]string{"https://new.example"}},
		{"no registry", answer{status: 404}, line1, Fail, []string{"no registry"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := judgeLogin(&test.a, test.login, "home.example")
			expect(t, got, test.status, test.parts...)
			if strings.Contains(got.Text+got.Remedy, "geheim") {
				t.Errorf("the password is in %+v", got)
			}
		})
	}
}

func TestSkewOfVersionsIsJudged(t *testing.T) {
	for _, test := range []struct {
		here, there string
		status      Status
	}{
		{"v1.2.3", "v1.2.3", OK},
		{"v1.2.3", "v1.3.0", OK},
		{"v1.2.3", "v1.2.9", OK},
		{"v1.3.0", "v1.2.9", Warn},
		{"v1.2.3", "v2.0.0", Fail},
		{"dev-0123456789ab", "v1.2.3", Warn},
		{"v1.2.3", "nonsense", Warn},
		{"v1.2.3", "v9999999999.1.1", Warn},
		{"dev", "dev", OK},
	} {
		t.Run(test.here+" and "+test.there, func(t *testing.T) {
			expect(t, judgeVersions(test.here, test.there, "the parent"), test.status)
		})
	}
}
