package tlsca_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/tlsca"
)

const day = 24 * time.Hour

// options returns the options of an authority in dir.
func options(dir string, names ...string) tlsca.Options {
	if len(names) == 0 {
		names = []string{"ship1.example", "10.1.1.1", "::1"}
	}
	return tlsca.Options{Dir: dir, Name: "ship1", Names: func() []string { return names },
		Log: slog.New(slog.DiscardHandler)}
}

func open(t *testing.T, o tlsca.Options) *tlsca.Authority {
	t.Helper()
	a, err := tlsca.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func refresh(t *testing.T, a *tlsca.Authority) {
	t.Helper()
	if err := a.Refresh(); err != nil {
		t.Fatal(err)
	}
}

// leaf returns the serving certificate.
func leaf(t *testing.T, a *tlsca.Authority) *x509.Certificate {
	t.Helper()
	c, err := a.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

// accepts reports whether a client connects to name if it trusts bundle, and its clock is right.
func accepts(t *testing.T, a *tlsca.Authority, bundle []byte, name string, clock time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		t.Fatal("there is no certificate in the bundle")
	}
	_, err := leaf(t, a).Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: clock})
	return err
}

// certificates parses a bundle.
func certificates(t *testing.T, bundle []byte) (all []*x509.Certificate) {
	t.Helper()
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestCertificatesHaveTheRightExtensions(t *testing.T) {
	a := open(t, options(t.TempDir()))
	ca, cert := certificates(t, a.Bundle())[0], leaf(t, a)
	if !ca.IsCA || !ca.BasicConstraintsValid || !ca.MaxPathLenZero || ca.MaxPathLen != 0 {
		t.Errorf("the CA's constraints are wrong: %+v", ca)
	}
	if ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || ca.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("CA: usage %b, %v", ca.KeyUsage, ca.PublicKeyAlgorithm)
	}
	if !strings.HasPrefix(ca.Subject.CommonName, "Ferry CA ship1 ") {
		t.Errorf("the CA is named %q", ca.Subject.CommonName)
	}
	if cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("certificate: %+v", cert)
	}
	if len(ca.SubjectKeyId) == 0 || string(cert.AuthorityKeyId) != string(ca.SubjectKeyId) ||
		len(cert.SubjectKeyId) == 0 || string(cert.SubjectKeyId) == string(ca.SubjectKeyId) {
		t.Error("the key ids are wrong")
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); life > 397*day {
		t.Errorf("the certificate lives for %v", life)
	}
	if early := time.Since(cert.NotBefore); early < time.Hour || early > time.Hour+time.Minute {
		t.Errorf("it is backdated by %v", early)
	}
	for _, name := range []string{"ship1.example", "10.1.1.1", "::1"} {
		if err := accepts(t, a, a.Bundle(), name, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := accepts(t, a, a.Bundle(), "other.example", time.Now()); err == nil {
		t.Error("another name is accepted")
	}
}

func TestRestartKeepsCertificatesAndNewNamesKeepTheCA(t *testing.T) {
	dir := t.TempDir()
	a := open(t, options(dir))
	b := open(t, options(dir))
	if !leaf(t, a).Equal(leaf(t, b)) || a.Fingerprint() != b.Fingerprint() {
		t.Error("a restart made new certificates")
	}
	c := open(t, options(dir, "ship2.example"))
	if c.Fingerprint() != a.Fingerprint() {
		t.Error("new names made a new CA")
	}
	if err := accepts(t, c, a.Bundle(), "ship2.example", time.Now()); err != nil {
		t.Error(err)
	}
	if err := accepts(t, c, a.Bundle(), "ship1.example", time.Now()); err == nil {
		t.Error("the old name is still in the certificate")
	}
}

func TestNewAddressIsAddedWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var name atomic.Value
		name.Store("10.1.1.1")
		o := options(t.TempDir())
		o.Names = func() []string { return []string{name.Load().(string)} }
		a := open(t, o)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		name.Store("10.1.1.2")
		time.Sleep(2 * time.Minute)
		if err := accepts(t, a, a.Bundle(), "10.1.1.2", time.Now()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestKeysAreReadableByTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	key := filepath.Join(dir, "ca.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, options(dir))
	for _, name := range []string{"ca.key", "server.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "ca.crt")); err != nil || strings.Contains(string(text), "KEY") {
		t.Errorf("ca.crt: %v", err)
	}
}

// A client that trusts the first CA, and one that follows ca.crt, connect for 21 years, with
// clocks that are half an hour slow or half a day fast.
func TestEveryClientConnectsWhileCertificatesAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a := open(t, options(dir))
		first := a.Bundle()
		end := certificates(t, first)[0].NotAfter
		followed := first
		var cas, certs int
		var last *x509.Certificate
		for start := time.Now(); time.Since(start) < 21*365*day; {
			step := 5 * day
			if b := certificates(t, a.Bundle())[0]; time.Until(b.NotAfter) < 20*day {
				step = 5 * time.Hour // it hands over soon
			}
			time.Sleep(step)
			if cas%2 == 1 { // restarts make no difference
				a = open(t, options(dir))
			}
			refresh(t, a)
			for _, skew := range []time.Duration{-30 * time.Minute, 0, 12 * time.Hour} {
				clock := time.Now().Add(skew)
				if err := accepts(t, a, followed, "ship1.example", clock); err != nil {
					t.Fatalf("a client that follows, at %v: %v", clock, err)
				}
				if clock.Before(end.Add(-day)) {
					if err := accepts(t, a, first, "ship1.example", clock); err != nil {
						t.Fatalf("a client with the first CA, at %v: %v", clock, err)
					}
				}
			}
			if c := leaf(t, a); !c.Equal(last) {
				last, certs = c, certs+1
			}
			if now := len(certificates(t, a.Bundle())); now != len(certificates(t, followed)) {
				cas++
			}
			// Nodes follow ca.crt a year late.
			if b := a.Bundle(); len(certificates(t, b)) == 2 &&
				time.Now().After(certificates(t, b)[1].NotBefore.Add(365*day)) || len(certificates(t, b)) == 1 {
				followed = b
			}
		}
		if certs < 120 || certs > 160 { // every 60 days
			t.Errorf("there were %d serving certificates", certs)
		}
		if got := len(certificates(t, a.Bundle())); got > 2 {
			t.Errorf("%d CAs are left", got)
		}
	})
}

// earliest is a time that has passed for certain, 26 years after the clock of synctest.
var earliest = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)

func TestClockBeforeTheBuildMakesUsableCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it begins in the year 2000
		o := options(t.TempDir())
		o.Earliest = earliest
		a := open(t, o)
		if err := accepts(t, a, a.Bundle(), "10.1.1.1", earliest.Add(30*day)); err != nil {
			t.Errorf("a client with the right clock: %v", err)
		}
		ca := a.Bundle()
		time.Sleep(time.Until(earliest.Add(200 * day)))
		refresh(t, a)
		if err := accepts(t, a, ca, "10.1.1.1", time.Now()); err != nil {
			t.Errorf("after the clock was set: %v", err)
		}
	})
}

func TestWrongClockAtAStartChangesNothing(t *testing.T) {
	dir, files := t.TempDir(), map[string]string{}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(earliest.Add(400 * day)))
		o := options(dir)
		o.Earliest = earliest
		open(t, o)
		for _, name := range []string{"ca.crt", "ca.key", "server.crt", "server.key"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(text)
		}
	})
	for _, clock := range []time.Time{{}, earliest.Add(100 * day)} { // the year 2000, and before the first start
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(clock))
			o := options(dir)
			o.Earliest = earliest
			a := open(t, o)
			time.Sleep(30 * time.Minute)
			refresh(t, a)
			for name, want := range files {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
					t.Errorf("%v: %s was changed, %v", clock, name, err)
				}
			}
		})
	}
}

func TestCertificatesFromTheFutureAreReplaced(t *testing.T) {
	dir := t.TempDir()
	var ahead []byte
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(50 * 365 * day)
		ahead = open(t, options(dir)).Bundle()
	})
	synctest.Test(t, func(t *testing.T) {
		a := open(t, options(dir))
		time.Sleep(2 * time.Hour)
		refresh(t, a)
		bundle := a.Bundle()
		if err := accepts(t, a, bundle, "10.1.1.1", time.Now()); err != nil {
			t.Error(err)
		}
		// When that time comes, clients that trust the first CA connect.
		time.Sleep(50*365*day + time.Hour)
		refresh(t, a)
		if err := accepts(t, a, ahead, "10.1.1.1", time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func TestInstanceThatWasOffForYearsServesAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		open(t, options(dir))
		time.Sleep(12 * 365 * day)
		changed := false
		o := options(dir)
		o.Changed = func() { changed = true }
		a := open(t, o)
		if err := accepts(t, a, a.Bundle(), "10.1.1.1", time.Now()); err != nil {
			t.Error(err)
		}
		if !changed {
			t.Error("nobody heard of the new CA")
		}
	})
}

func TestDamagedCAKeyIsAnErrorWithAHint(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	key := filepath.Join(dir, "ca.key")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]string{
		"empty": "", "half": string(text[:len(text)/2]), "other": "hello",
		"exchanged": strings.Replace(string(text), "PRIVATE KEY", "CERTIFICATE", 2),
	} {
		if err := os.WriteFile(key, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := tlsca.Open(options(dir))
		var h interface{ Hint() string }
		if err == nil || !errors.As(err, &h) || !strings.Contains(h.Hint(), "delete it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedServingCertificateIsReplaced(t *testing.T) {
	dir := t.TempDir()
	a := open(t, options(dir))
	for _, name := range []string{"server.crt", "server.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		b := open(t, options(dir))
		if err := accepts(t, b, a.Bundle(), "10.1.1.1", time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFullDiskDoesNotStopServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a := open(t, options(dir))
		bundle := a.Bundle()
		if err := os.Rename(dir, dir+".away"); err != nil { // no file can be written
			t.Fatal(err)
		}
		for range 9 * 12 { // after eight years, no new CA can be saved
			time.Sleep(30 * day)
			_ = a.Refresh() // fails, because it cannot save
			if err := accepts(t, a, bundle, "10.1.1.1", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCertificateServesARealHandshake(t *testing.T) {
	a := open(t, options(t.TempDir(), "127.0.0.1"))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: a.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Bundle())
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
