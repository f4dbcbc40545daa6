package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/jsonlimit"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

// clientOf returns a client of a parent with the given handler.
func clientOf(t *testing.T, answer http.HandlerFunc) *gateway.Client {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	transport := gateway.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	return gateway.NewClient(wire.ConnectionString{
		Name: "ship1", Token: "ship1", Password: "s3cr3t", Protocol: "http",
		Endpoint: strings.TrimPrefix(srv.URL, "http://"),
	}, transport)
}

var someDigest = digest.FromString("some")

func TestBlobReportsItsOffset(t *testing.T) {
	const content = "0123456789"
	for name, test := range map[string]struct {
		answer         http.HandlerFunc
		offset, length int64
		start          int64
		body           string
	}{
		"a range": {func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, 3, 4, 3, "3456"},
		"to the end": {func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, 3, -1, 3, "3456789"},
		"a source without ranges": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }, 3, 4,
			0, content},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/elsewhere" {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, 3, 4, 3, "3456"},
	} {
		c := clientOf(t, test.answer)
		body, start, err := c.Blob(t.Context(), "app/a", someDigest, test.offset, test.length)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := io.ReadAll(body)
		body.Close()
		if err != nil || start != test.start || string(text) != test.body {
			t.Errorf("%s: %q from %d, %v; want %q from %d", name, text, start, err, test.body, test.start)
		}
	}
}

func TestBlobErrorsHaveTheRegistrysText(t *testing.T) {
	c := clientOf(t, func(w http.ResponseWriter, r *http.Request) { oci.WriteError(w, oci.ErrBlobUnknown) })
	if _, _, err := c.Blob(t.Context(), "app/a", someDigest, 0, -1); !errors.Is(err, oci.ErrBlobUnknown) {
		t.Errorf("blob = %v, want BLOB_UNKNOWN", err)
	}
	c = clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 9-1/x")
		w.WriteHeader(http.StatusPartialContent)
	})
	if body, _, err := c.Blob(t.Context(), "app/a", someDigest, 0, -1); err == nil {
		body.Close()
		t.Error("an invalid Content-Range is accepted")
	}
}

func TestRetryAfterOfTheParentIsKnown(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "99999999999999999999": time.Hour, "Thu, 31 Dec 2099 23:59:59 GMT": time.Hour,
	} {
		c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", header)
			http.Error(w, "later", http.StatusServiceUnavailable)
		})
		_, pollErr := c.Poll(t.Context(), wire.PollRequest{})
		_, _, blobErr := c.Blob(t.Context(), "app/a", someDigest, 0, -1)
		for _, err := range []error{pollErr, blobErr} {
			var asked interface{ RetryAfter() time.Duration }
			if !errors.As(err, &asked) || asked.RetryAfter() != want {
				t.Errorf("%s: %v does not say %v", header, err, want)
			}
		}
	}
}

func TestCutPlanIsAnError(t *testing.T) {
	entry := fmt.Sprintf(`{"missing":{"repository":"app/a","digest":%q,"reason":"gone"}}`, someDigest)
	for name, body := range map[string]string{
		"nothing":          "",
		"no end":           entry + "\n",
		"half a line":      entry[:20],
		"one entry less":   entry + "\n" + `{"end":{"entries":2}}`,
		"one entry more":   entry + "\n" + entry + "\n" + `{"end":{"entries":1}}`,
		"a line too large": `{"blob":{"data":"` + strings.Repeat("A", 17<<20),
		"no JSON":          "<xml>\n",
	} {
		c := clientOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
		if err := c.Plan(t.Context(), nil, nil, func(replication.PlanEntry) error { return nil }); err == nil {
			t.Errorf("%s: an incomplete plan is accepted", name)
		}
	}
}

func TestPasswordIsNotForwardedByARedirect(t *testing.T) {
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached = true }))
	defer elsewhere.Close()
	c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
	})
	_, err := c.Poll(t.Context(), wire.PollRequest{})
	if err == nil || reached || !strings.Contains(err.Error(), "protocol") {
		t.Errorf("poll = %v, reached = %v; want an error and no second request", err, reached)
	}
}

func TestOnlyTheParentGetsThePassword(t *testing.T) {
	for name, test := range map[string]struct {
		protocol string
		hops     []string // of the redirects
		sent     bool     // with the last
		reached  int
	}{
		"the parent itself":         {"http", []string{"http://parent/x"}, true, 2},
		"the parent, with its port": {"https", []string{"https://parent:443/x"}, true, 2},
		"another port":              {"http", []string{"http://parent:8080/x"}, false, 2},
		"a name below the parent's": {"http", []string{"http://blobs.parent/x"}, false, 2},
		"TLS":                       {"http", []string{"https://parent/x"}, false, 2},
		"there and back":            {"http", []string{"http://parent:8080/x", "http://parent/x"}, false, 3},
		"out of TLS":                {"https", []string{"http://parent/x"}, false, 1},
		"out of TLS, over TLS at last": {"http", []string{"https://blobs/x", "http://blobs/x", "https://blobs/x"},
			false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var sent []bool // for each request, whether it had the password
			answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, password, _ := r.BasicAuth()
				if sent = append(sent, password == "s3cr3t"); len(sent) <= len(test.hops) {
					http.Redirect(w, r, test.hops[len(sent)-1], http.StatusTemporaryRedirect)
				}
			})
			plain, overTLS := httptest.NewServer(answer), httptest.NewTLSServer(answer)
			defer plain.Close()
			defer overTLS.Close()
			transport := gateway.NewTransport()
			defer transport.CloseIdleConnections()
			transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(),
				ServerName: "example.com"} // the name in httptest's certificate
			transport.TLSClientConfig.RootCAs.AddCert(overTLS.Certificate())
			transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				server := plain
				if strings.HasSuffix(address, ":443") {
					server = overTLS
				}
				return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
			}
			connection := plainHTTP
			connection.Protocol = test.protocol
			body, _, err := gateway.NewClient(connection, transport).Blob(t.Context(), "app/a", someDigest, 0, -1)
			if err == nil {
				body.Close()
			}
			if whole := len(sent) == len(test.hops)+1; len(sent) != test.reached || whole != (err == nil) {
				t.Fatalf("%d requests, %v; want %d", len(sent), err, test.reached)
			}
			if !sent[0] || len(sent) > 1 && sent[len(sent)-1] != test.sent {
				t.Errorf("the password went to %v, want it to be %v with the last", sent, test.sent)
			}
		})
	}
}

func TestRedirectToAPrivateNetworkIsRefused(t *testing.T) {
	for _, where := range []string{"http://169.254.169.254/latest/meta-data", "http://192.168.1.1/admin",
		"http://10.1.2.3/"} {
		c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, where, http.StatusTemporaryRedirect)
		})
		_, _, err := c.Blob(t.Context(), "app/a", someDigest, 0, -1)
		if !retry.Permanent(err) || !strings.Contains(err.Error(), "a network that the registry itself is not in") {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestErrorsHaveNoPasswordAndNoLongText(t *testing.T) {
	c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintf(w, `{"detail":%q}`, strings.Repeat("long ", 10_000))
	})
	_, err := c.Poll(t.Context(), wire.PollRequest{})
	if err == nil || len(err.Error()) > 2000 || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("poll fails with %d bytes", len(err.Error()))
	}
}

func TestSilentParentTimesOut(t *testing.T) {
	for name, first := range map[string]string{
		"from the start": "",
		"in the middle":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				go func() {
					buf := make([]byte, 4096)
					far.Read(buf)
					io.WriteString(far, first)
					io.Copy(io.Discard, far)
				}()
				transport := gateway.NewTransport()
				transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return near, nil }
				c := gateway.NewClient(plainHTTP, transport)
				start := time.Now()
				_, err := c.Poll(t.Context(), wire.PollRequest{WaitSeconds: 60})
				took := time.Since(start)
				if err == nil || took < time.Minute || took > 2*time.Minute {
					t.Errorf("poll = %v after %v, want an error after one or two minutes", err, took)
				}
				near.Close()
				synctest.Wait()
			})
		})
	}
}

var plainHTTP = wire.ConnectionString{Name: "ship1", Token: "ship1", Password: "s3cr3t", Protocol: "http",
	Endpoint: "parent"}

func TestElementsOfAnAnswerAreCountedBeforeDecoding(t *testing.T) {
	var body []byte
	c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "zstd")
		w.Write(body)
	})
	poll := func() error { _, err := c.Poll(t.Context(), wire.PollRequest{}); return err }
	for name, test := range map[string]struct {
		body []byte
		call func() error
	}{
		"listings":   {bomb(t, `{"listings":[`, "{}", 2_700_000, `]}`), poll},
		"items":      {bomb(t, `{"listings":[{"items":[`, "{}", 2_700_000, `]}]}`), poll},
		"registries": {bomb(t, `{"desired":{"connectedRegistries":[`, "{}", 2_700_000, `]}}`), poll},
		"too long":   {bomb(t, `{"feed":"`, strings.Repeat("x", 1023), 9000, `"}`), poll},
		"activation": {bomb(t, `{"desired":{"tokens":[`, "null", 1_500_000, `]}}`), func() error {
			_, err := c.Activate(t.Context(), wire.ActivateRequest{})
			return err
		}},
		"a plan": {bomb(t, `{"manifest":{"leftOut":[`, `""`, 2_300_000, "]}}\n"), func() error {
			return c.Plan(t.Context(), nil, nil, func(replication.PlanEntry) error { return nil })
		}},
		"blobs of a plan": {bomb(t, `{"blob":{"fetchMethods":[`, `{}`, 2_300_000, "]}}\n"), func() error {
			return c.Plan(t.Context(), nil, nil, func(replication.PlanEntry) error { return nil })
		}},
	} {
		body = test.body
		used := allocated(func() {
			if err := test.call(); !errors.Is(err, jsonlimit.ErrTooLarge) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if len(body) > 4000 || used > 48<<20 {
			t.Errorf("%s: %d MiB are allocated for %d bytes", name, used>>20, len(body))
		}
	}
}
