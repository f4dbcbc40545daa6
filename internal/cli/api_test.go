package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"

	"github.com/google/go-cmp/cmp"
)

func clientOf(t *testing.T, url string) *client {
	t.Helper()
	c, err := newClient(login{URL: url, User: "admin", Password: "secret"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestASilentRegistryIsReportedAndTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clientOf(t, "http://127.0.0.1:5000")
		var said bytes.Buffer
		c.waits = &waits{out: &said}
		here, there := net.Pipe()
		go io.Copy(io.Discard, there) // it reads everything and sends nothing
		dial := func(context.Context, string, string) (net.Conn, error) { return here, nil }
		c.http.Transport.(*http.Transport).DialContext = dial
		start := time.Now()
		_, err := c.do(t.Context(), call{method: "GET", path: "/api/v1/tokens"})
		if took := time.Since(start); err == nil || took > answerTimeout {
			t.Errorf("after %s: %v", took, err)
		}
		var out bytes.Buffer
		report(&out, err)
		if !strings.Contains(out.String(), "reach http://127.0.0.1:5000: it did not answer within 60 seconds\n"+
			"hint: a program listens at this address, but does not answer") {
			t.Errorf("%s", &out)
		}
		if want := "waiting for http://127.0.0.1:5000 to answer (2 s)\n" +
			"waiting for http://127.0.0.1:5000 to answer (32 s)\n"; said.String() != want {
			t.Errorf("meanwhile %q", &said)
		}
		there.Close()
	})
}

func TestAnUnreachableAddressTimesOut(t *testing.T) {
	c := clientOf(t, "http://127.0.0.1:5000")
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	_, err := c.do(t.Context(), call{method: "GET", path: "/api/v1/tokens"})
	var out bytes.Buffer
	report(&out, err)
	if !strings.Contains(out.String(), "hint: is the address right, and does a firewall") {
		t.Errorf("%s", &out)
	}
}

func TestJoinedErrorsWithTheSameCauseAreShownOnce(t *testing.T) {
	full := errors.New("no space left on device")
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.Join(fmt.Errorf("write a: %w", full), fmt.Errorf("close a: %w", full), full),
			"write a: no space left on device"},
		{errors.Join(fmt.Errorf("write a: %w", full), errors.New("stop: interrupted")),
			"write a: no space left on device; stop: interrupted"},
	} {
		var out bytes.Buffer
		report(&out, test.err)
		if out.String() != "ferry: "+test.want+"\n" {
			t.Errorf("%q", &out)
		}
	}
}

func TestAnErrorIsOneLineAndAHint(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	const problem = "application/problem+json"
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
		hint    string
	}{
		{"a problem",
			answer(404, problem,
				`{"title":"Not Found","status":404,"detail":"token x does not exist","hint":"see ferry token list"}`),
			"token x does not exist", "see ferry token list"},
		{"a problem with errors",
			answer(422, problem,
				`{"detail":"validation failed","errors":[{"message":"expected string","location":"body.mode"}]}`),
			"validation failed: mode: expected string", "--debug shows the request"},
		{"a problem with all of it",
			answer(422, problem,
				`{"detail":"validation failed","errors":[{"message":"expected object","location":"body"},`+
					`{"message":"expected number","location":"query.n"}]}`),
			"validation failed: expected object; query.n: expected number", "--debug shows the request"},
		{"the registry's errors",
			answer(404, "application/json",
				`{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`),
			"repository name not known to registry", "ferry repository list"},
		{"a wrong password",
			answer(401, "application/json", `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`),
			`does not accept the user "admin" with this password`, "ferry login"},
		{"too many tries", answer(429, problem, `{"detail":"too many failed logins"}`), "too many failed logins",
			"wait a while"},
		{"a page of a proxy", answer(502, "text/html", `<html>Bad Gateway`), "answered 502 Bad Gateway",
			"the registry's log"},
		{"something else that listens there", answer(200, "text/html", `<html>Hello`), "something other than JSON",
			"is a ferry registry at this address?"},
		{"a cut", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "EOF",
			"ferry doctor --endpoint"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := httptest.NewServer(test.handler)
			defer srv.Close()
			_, err := clientOf(t, srv.URL).do(t.Context(), call{method: "GET", path: "/api/v1/tokens"})
			if err == nil {
				t.Fatal("no error")
			}
			var out bytes.Buffer
			if code := report(&out, err); code != 1 {
				t.Errorf("exit code %d", code)
			}
			first, second, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
			if !strings.HasPrefix(first, "ferry: ") || !strings.Contains(first, test.want) ||
				!strings.Contains(second, test.hint) || (test.hint == "") != (second == "") {
				t.Errorf("got %q", out.String())
			}
			if strings.Contains(out.String(), "secret") {
				t.Errorf("the password is in %q", out.String())
			}
		})
	}
}

func TestAWrongSchemeIsRecognised(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer secure.Close()
	for url, hint := range map[string]string{
		strings.Replace(plain.URL, "http:", "https:", 1): "use http://",
		secure.URL: "SSL_CERT_FILE",
		strings.Replace(secure.URL, "https:", "http:", 1): "use https://",
	} {
		_, err := clientOf(t, url).do(t.Context(), call{method: "GET", path: "/"})
		var out bytes.Buffer
		report(&out, err)
		if !strings.Contains(out.String(), hint) {
			t.Errorf("%s: %q", url, out.String())
		}
	}
}

func TestAnInterruptIsNotAnError(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := clientOf(t, srv.URL).do(ctx, call{method: "GET", path: "/"})
	if err == nil || err.Error() != "interrupted" {
		t.Error(err)
	}
}

func TestAllPagesOfAListingAreRead(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/_catalog" || r.FormValue("n") != "100" {
			t.Errorf("asked for %s", r.URL)
		}
		switch r.FormValue("last") {
		case "":
			w.Header().Set("Link", `</v2/_catalog?n=100&last=b>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["a","b"]}`)
		case "b":
			// A page may be empty because the user may see none of its entries.
			w.Header().Set("Link", `</v2/_catalog?n=100&last=bb>; rel="next"`)
			fmt.Fprint(w, `{"repositories":[]}`)
		case "bb":
			// Another host in the link must not get the password.
			w.Header().Set("Link", `<https://evil.example/v2/_catalog?n=100&last=c>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["c"]}`)
		default:
			fmt.Fprint(w, `{"repositories":[]}`)
		}
	}))
	defer srv.Close()
	for top, want := range map[int][]string{0: {"a", "b", "c"}, 1: {"a"}, 3: {"a", "b", "c"}} {
		got, err := pages[string](t.Context(), clientOf(t, srv.URL), "/v2/_catalog", url.Values{"n": {pageSize}},
			"repositories", top)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.value); diff != "" {
			t.Errorf("top %d: %s", top, diff)
		}
	}
}

func TestAnIncompleteListingIsAnError(t *testing.T) {
	for _, link := range []string{`/v2/_catalog?last=a; rel="next"`, `</v2/_catalog?last=x>; rel="next"`} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", link)
			fmt.Fprint(w, `{"repositories":["a"]}`)
		}))
		defer srv.Close()
		got, err := pages[string](t.Context(), clientOf(t, srv.URL), "/v2/_catalog", nil, "repositories", 0)
		if err == nil {
			t.Errorf("Link %s: %s", link, got.raw)
		}
	}
}

func TestARedirectDoesNotGetThePassword(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok || r.Method != http.MethodGet {
			t.Errorf("%s came, with a login: %v", r.Method, ok)
		}
		fmt.Fprint(w, `{}`)
	}))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusMovedPermanently)
	}))
	defer srv.Close()
	c := clientOf(t, srv.URL)
	if _, err := c.do(t.Context(), call{method: "GET", path: "/x"}); err != nil {
		t.Error(err)
	}
	// The redirected request would be a GET, and seem to succeed.
	_, err := c.do(t.Context(), call{method: "POST", path: "/x", body: 1})
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || hint.Hint() != "use the address that it redirects to: "+elsewhere.URL {
		t.Errorf("%v, %v", err, hint)
	}
}

func TestANameIsOneSegmentOfAPath(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath()
	}))
	defer srv.Close()
	for name, want := range map[string]string{
		"plain": "/api/v1/tokens/plain", "a/b": "/api/v1/tokens/a%2Fb", "a b?c": "/api/v1/tokens/a%20b%3Fc",
		"%2e%2e": "/api/v1/tokens/%252e%252e",
	} {
		if _, err := get[api.Token](t.Context(), clientOf(t, srv.URL), tokens.kind, name); err != nil || got != want {
			t.Errorf("%q: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{".", ".."} {
		if _, err := get[api.Token](t.Context(), clientOf(t, srv.URL), tokens.kind, name); err == nil {
			t.Errorf("%q was sent", name)
		}
	}
}

func TestImageNamesAreParsedLikeTheReference(t *testing.T) {
	const d = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	for image, want := range map[string][2]string{
		"app:1.0": {"app", "1.0"}, "app": {"app", "latest"}, "a/b@" + d: {"a/b", d},
	} {
		repository, reference, err := splitImage(image)
		if err != nil || repository != want[0] || reference != want[1] {
			t.Errorf("%s: %s %s %v", image, repository, reference, err)
		}
	}
	for _, image := range []string{"", ":1", "app:", "App:1", "app@sha256:00", "app@", "../x:1", "host:5000/app:1"} {
		if repository, reference, err := splitImage(image); err == nil {
			t.Errorf("%q: %s %s", image, repository, reference)
		}
	}
}

func TestRefusalsOfAReadOnlyInstanceNameTheRoot(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, api.TextReadOnly)
	}))
	defer srv.Close()
	_, err := clientOf(t, srv.URL).do(t.Context(), call{method: "DELETE", path: "/v2/a/manifests/b"})
	r, ok := errors.AsType[*refusal](err)
	if !ok || r.text != api.TextReadOnly || !strings.Contains(r.hint, "at the root") {
		t.Errorf("%+v", err)
	}
}

func TestRepairWaitsWhileTheRegistryIsAway(t *testing.T) {
	questions := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case api.Root + "/status":
			fmt.Fprint(w, `{"sync":{}}`)
		case api.Root + "/sync":
			fmt.Fprint(w, `{"state":"Syncing"}`)
		case api.Root + "/damaged":
			switch questions++; questions {
			case 1:
				fmt.Fprint(w, `{"value":[{"fetchable":true}]}`)
			case 2:
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				fmt.Fprint(w, `{"value":[]}`)
			}
		default:
			fmt.Fprint(w, `{}`)
		}
	}))
	defer srv.Close()
	hint, err := repair(t.Context(), &Env{Stderr: io.Discard}, clientOf(t, srv.URL), []api.Damaged{{Fetchable: true}})
	if err != nil || hint != connectedHint || questions != 3 {
		t.Errorf("%q, %v, after %d questions", hint, err, questions)
	}
}
