package events

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/retry"
)

// TestSignatureIsThatOfStandardWebhooks uses the example of the specification.
func TestSignatureIsThatOfStandardWebhooks(t *testing.T) {
	key, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestEndpointDecidesWhetherToTryAgain(t *testing.T) {
	status, after, redirected := 200, "", false
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			redirected = true
		}
		w.Header().Set("Location", "/elsewhere")
		w.Header().Set("Retry-After", after)
		w.WriteHeader(status)
	}))
	defer srv.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	secrets := WebhookSecrets{URI: srv.URL + "/hook?token=hidden", Key: make([]byte, 32)}
	event := cloudEvent(metadb.Event{Origin: "1-2", Type: Push, Repository: "a", Tag: "b"}, "")
	if _, err := NewEndpoint(WebhookSpec{}, secrets, time.Now).Deliver(t.Context(), 1, event); err == nil ||
		strings.Contains(err.Error(), "hidden") {
		t.Errorf("without the CA: %v", err)
	}
	e := NewEndpoint(WebhookSpec{Authority: ca}, secrets, time.Now)
	for _, tc := range []struct {
		status          int
		after           string
		refused, unwell bool
	}{
		{200, "", false, false}, {204, "", false, false}, {400, "", true, false}, {422, "", true, false},
		{410, "", true, false}, {307, "", false, true}, {404, "", false, true}, {429, "7", false, true},
		{503, "9", false, true},
	} {
		status, after = tc.status, tc.after
		got, err := e.Deliver(t.Context(), 1, event)
		refused := errors.As(err, new(*Refusal))
		if got != tc.status || refused != tc.refused || (err != nil && !refused) != tc.unwell {
			t.Errorf("%d: %d %v", tc.status, got, err)
		}
		if tc.after != "" && retry.After(err) == 0 {
			t.Errorf("%d: Retry-After is ignored", tc.status)
		}
	}
	if redirected {
		t.Error("a redirect was followed")
	}
}

func TestWebhookSettingsAreChecked(t *testing.T) {
	key := make([]byte, 32)
	for _, bad := range []WebhookSecrets{
		{URI: "ftp://h/", Key: key}, {URI: "h", Key: key}, {URI: "https://u:hidden@h/", Key: key},
		{URI: "https://h/", Key: key[:8]}, {URI: "https://h/", Key: key, Headers: map[string]string{"Host": "x"}},
		{URI: "https://h/", Key: key, Headers: map[string]string{"a b": "x"}},
		{URI: "https://h/", Key: key, Headers: map[string]string{"X-A": "hidden\r\nX-B: y"}},
		{URI: "https://h/" + strings.Repeat("x", maxURI), Key: key},
	} {
		if err := bad.Check(); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, bad := range []WebhookSpec{
		{}, {Actions: []string{"pull"}}, {Actions: []string{Push}, Scope: []string{"A"}},
		{Actions: []string{Push}, Authority: "no certificate"},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if p, err := ParseScope(scopePattern("app")); err != nil || p.tag != "latest" {
		t.Errorf("%+v %v", p, err)
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(NewSecret())
	f.Add("whsec_")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseSecret(text)
		if err == nil && (len(key) < minKey || len(key) > maxKey) {
			t.Errorf("%d bytes", len(key))
		}
		if err == nil && !strings.Contains(text, base64.StdEncoding.EncodeToString(key)[:8]) {
			t.Error("the key is another one")
		}
	})
}

func TestSlowEndpointIsNamedWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		go io.Copy(io.Discard, there)
		secrets := WebhookSecrets{URI: "http://ci.example/hook?token=hidden", Key: make([]byte, 32)}
		e := NewEndpoint(WebhookSpec{}, secrets, time.Now)
		e.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			return here, nil
		}
		e.client.Timeout = pingTimeout
		_, err := e.Deliver(t.Context(), 1, cloudEvent(metadb.Event{Origin: "1-2", Type: Push}, ""))
		if want := "the endpoint did not answer within 15 seconds"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	})
}
