package mirror_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/faultnet"
	"ferry/internal/mirror"
)

// dialingTo returns an instance whose connections all end at serve.
func dialingTo(t *testing.T, serve func(net.Conn)) *instance {
	t.Helper()
	h, pipe := newStoppedInstance(t), faultnet.NewPipe()
	h.newServiceWith(t, pipe.Dial)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := pipe.Accept()
			if err != nil {
				return
			}
			serve(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { pipe.Close(); <-done })
	h.start(t)
	return h
}

// selfSigned returns a self-signed certificate for example.com.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
}

// asPEM returns a certificate in PEM.
func asPEM(c tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
}

// failsWithoutRetry runs an import that must fail without a retry, with this problem and
// this advice.
func failsWithoutRetry(t *testing.T, h *instance, q mirror.ImportRequest, trouble, advice string) {
	t.Helper()
	began := time.Now()
	i := h.runImport(t, q)
	if i.State != mirror.ImportFailed || !strings.Contains(i.Problem, trouble) ||
		!strings.Contains(i.Hint, advice) || advice == "" && i.Hint != "" {
		t.Errorf("%+v, want %q, %q", i, trouble, advice)
	}
	if took := i.EndedAt.Sub(began); took >= time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestTLSErrorIsNotRetried(t *testing.T) {
	certificate := selfSigned(t)
	says := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			conn.Read(make([]byte, 16<<10)) // the ClientHello
			io.WriteString(conn, text)
		}
	}
	for name, v := range map[string]struct {
		serve           func(net.Conn)
		trouble, advice string
	}{
		"plain HTTP": {says("HTTP/1.1 400 Bad Request\r\n\r\n"), "server gave HTTP response to HTTPS client",
			"put http:// before it"},
		"another protocol": {says("SSH-2.0-OpenSSH_9.9\r\n"), "first record does not look like a TLS handshake",
			"put http:// before it"},
		"an unknown authority": {func(conn net.Conn) {
			tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake()
		}, "x509: certificate signed by unknown authority", "--ca-file FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failsWithoutRetry(t, dialingTo(t, v.serve), mirror.ImportRequest{Source: "example.com/app:1"},
					v.trouble,
					v.advice)
			})
		})
	}
}

func TestRefusedLoginIsNotRetried(t *testing.T) {
	dockerConfig(t, `{"credHelpers":{"elsewhere.example":"missing"}}`)
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.requireLogin("bot", "hush")
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1"}
		failsWithoutRetry(t, h, q, "UNAUTHORIZED", "--username and --password-stdin, or docker login")
		failsWithoutRetry(t, h, mirror.ImportRequest{Source: "http://elsewhere.example/app:1"},
			"read the login for elsewhere.example", "install that helper")
		h.upstream.set(func() {
			h.upstream.before = func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
		})
		failsWithoutRetry(t, h, q, "DENIED", "--username and --password-stdin, or docker login")
	})
}

func TestMissingTagOrRepositoryIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.image("acme/app", "one", 10, "1")
		failsWithoutRetry(t, h, mirror.ImportRequest{Source: "http://upstream.example/acme/app:2"},
			"upstream.example/acme/app has no 2", "")
		failsWithoutRetry(t, h, mirror.ImportRequest{Source: "http://upstream.example/acme/ap:1"},
			"upstream.example has no repository acme/ap", "")
		failsWithoutRetry(t, h, mirror.ImportRequest{Source: "http://docker.io/alpinx:1"},
			"docker.io has no repository library/alpinx", "")
		h.rule(mirror.Spec{Source: "http://upstream.example/acme/ap"})
		if row := h.runRule(); row.Error != "upstream.example has no repository acme/ap" {
			t.Errorf("%+v", row)
		}
	})
}

func TestRuleErrorHasAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.rule(mirror.Spec{Source: "upstream.example/app"})
		if row := h.runRule(); !strings.Contains(row.Error,
			"server gave HTTP response to HTTPS client; the source does not use TLS: put http:// before it") {
			t.Errorf("%+v", row)
		}
	})
}

func TestImportShowsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.image("app", "one", 10, "1")
		began, turned := time.Now(), false
		h.upstream.before = func(w http.ResponseWriter, _ *http.Request) bool {
			if turned {
				return false
			}
			turned = true
			w.Header().Set("Retry-After", "90")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		synctest.Wait()
		i := h.beginImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
		time.Sleep(time.Second)
		i = h.importOf(t, i.ID)
		until := began.Add(90 * time.Second).UTC().Format("15:04:05 UTC")
		if want := "the source asks for a pause until " + until +
			": TOOMANYREQUESTS: too many requests"; i.Problem != want ||
			i.Hint != "" {
			t.Errorf("%+v, want %q", i, want)
		}
		if i = h.awaitImport(t, i); i.State != mirror.ImportSucceeded || i.Problem != "" {
			t.Errorf("%+v", i)
		}
	})
}

func TestImportShowsWhyItsLayersWait(t *testing.T) {
	for name, v := range map[string]struct {
		refuse func(w http.ResponseWriter)
		want   string
	}{
		"too many requests": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "the source asks for a pause until 00:01:0"},
		"a link that is cut": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				h.upstream.image("app", "one", 1<<20, "1")
				began := time.Now()
				h.upstream.before = func(w http.ResponseWriter, r *http.Request) bool {
					if time.Since(began) > 40*time.Second || !strings.Contains(r.URL.Path, "/blobs/") {
						return false
					}
					v.refuse(w)
					return true
				}
				synctest.Wait()
				i := h.beginImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
				time.Sleep(20 * time.Second)
				if i = h.importOf(t, i.ID); !strings.Contains(i.Problem, v.want) {
					t.Errorf("%+v, want %q", i, v.want)
				}
				if i = h.awaitImport(t, i); i.State != mirror.ImportSucceeded || i.Problem != "" {
					t.Errorf("%+v", i)
				}
			})
		})
	}
}
