package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// codeOf returns the code of the parent's refusal; "" if err is none.
func codeOf(err error) string {
	var answer *gateway.AnswerError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// blobsOf returns the blobs that a manifest needs.
func blobsOf(t *testing.T, m *replication.PlanManifest) (all []digest.Digest) {
	t.Helper()
	parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range parsed.Blobs() {
		all = append(all, b.Digest)
	}
	return all
}

func TestRefusalsAreErrorsThatBothSidesKnow(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	activate := func(c *gateway.Client) error {
		_, err := c.Activate(t.Context(), wire.ActivateRequest{InstanceID: "another"})
		return err
	}
	other := f.connection("secret")
	other.Name = "ship2"
	for name, test := range map[string]struct {
		err  error
		want error
		code string
	}{
		"wrong password":   {activate(f.as(t, "wrong")), gateway.ErrUnauthorized, "UNAUTHORIZED"},
		"another registry": {activate(gateway.NewClient(other, nil)), gateway.ErrUnauthorized, "DENIED"},
		"second instance":  {activate(f.client), gateway.ErrAlreadyActivated, "ALREADY_ACTIVATED"},
		"no instance": {func() error {
			_, err := f.client.Activate(t.Context(), wire.ActivateRequest{})
			return err
		}(), nil, "INVALID"},
		"not an instance of it": {func() error {
			_, err := f.client.Poll(t.Context(), wire.PollRequest{})
			return err
		}(), gateway.ErrNotActivated, "NOT_ACTIVATED"},
	} {
		if code := codeOf(test.err); code != test.code || test.want != nil && !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v (%s), want %s", name, test.err, code, test.code)
		}
	}
}

func TestRefusedLoginIsRecorded(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	other := f.connection("secret")
	other.Name = "ship2"
	for _, c := range []*gateway.Client{f.as(t, "wrong"), gateway.NewClient(other, nil), f.client} {
		if _, err := c.Activate(t.Context(), wire.ActivateRequest{InstanceID: "another"}); err == nil {
			t.Error("it works")
		}
	}
	want := []string{"ship1 127.0.0.1 UNAUTHORIZED", "ship1 127.0.0.1 DENIED", "ship1 127.0.0.1 ALREADY_ACTIVATED"}
	f.controlPlane.mu.Lock()
	defer f.controlPlane.mu.Unlock()
	if diff := cmp.Diff(want, f.controlPlane.refused); diff != "" {
		t.Error(diff)
	}
}

func TestSecondInstanceGetsAHintToDeactivateTheFirst(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	_, err := f.client.Activate(t.Context(), wire.ActivateRequest{InstanceID: "another"})
	var answer *gateway.AnswerError
	want := "ferry connected-registry deactivate -n ship1 -r " + f.connection("").Endpoint
	if !errors.As(err, &answer) || !strings.HasSuffix(answer.Hint, want) {
		t.Errorf("activate = %v, want a hint with %q", err, want)
	}
}

// post sends a raw request as ship1.
func (f *fixture) post(t *testing.T, path, encoding string, body []byte) (*http.Response, wire.Problem) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, f.server.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("ship1", "secret")
	r.Header.Set("Content-Encoding", encoding)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p wire.Problem
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		if err := json.Unmarshal(text, &p); err != nil ||
			resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("answer of %d is no problem: %s", resp.StatusCode, text)
		}
	}
	return resp, p
}

func TestBadRequestsGetProblems(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	var bomb bytes.Buffer
	z, err := zstd.NewWriter(&bomb)
	if err != nil {
		t.Fatal(err)
	}
	z.Write([]byte(`{"name":"`))
	for range 64 {
		z.Write(bytes.Repeat([]byte("a"), 1<<20))
	}
	z.Close()
	for name, test := range map[string]struct {
		path, encoding string
		body           []byte
		status         int
	}{
		"empty":              {wire.PathPoll, "", nil, 400},
		"no JSON":            {wire.PathPoll, "", []byte("<xml>"), 400},
		"of another type":    {wire.PathPoll, "", []byte(`{"cursor":"x"}`), 400},
		"too large":          {wire.PathPlan, "", []byte(`{"name":"` + strings.Repeat("a", 5<<20) + `"}`), 413},
		"a bomb":             {wire.PathPoll, "zstd", bomb.Bytes(), 413},
		"not zstd":           {wire.PathPoll, "zstd", []byte("{}"), 400},
		"unknown encoding":   {wire.PathPoll, "br", []byte("{}"), 400},
		"no name":            {wire.PathPoll, "", []byte("{}"), 403},
		"name of a path":     {wire.PathPoll, "", []byte(`{"name":"../ship1"}`), 403},
		"no path of ours":    {"/gateway/v1/nothing", "", []byte("{}"), 404},
		"of another version": {"/gateway/v2/poll", "", []byte("{}"), 404},
	} {
		resp, p := f.post(t, test.path, test.encoding, test.body)
		if resp.StatusCode != test.status || p.Status != test.status || p.Detail == "" || p.Code == "" {
			t.Errorf("%s: %d %+v, want %d", name, resp.StatusCode, p, test.status)
		}
	}
}

func TestUnauthenticatedBodyIsNotRead(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	resp, err := http.Post(f.server.URL+wire.PathPoll, "application/json", strings.NewReader("<xml>"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("status %d, challenge %q; want 401 and one", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
}

// An unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

func TestBodyWithoutAGatewayRightIsNotRead(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.controlPlane.set(func(p *controlPlane) { p.actions = []string{"repositories/app/*/content/read"} })
	for _, path := range []string{wire.PathActivate, wire.PathPoll, wire.PathPlan, wire.PathBlobs} {
		r := httptest.NewRequest(http.MethodPost, path, unread{t})
		r.SetBasicAuth("ship1", "secret")
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "DENIED") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// allocated returns how many bytes fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// bomb returns a small body that decompresses to a list of n elements.
func bomb(t *testing.T, before, element string, n int, after string) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(256<<10))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll([]byte(before+strings.Repeat(element+",", n-1)+element+after), nil)
}

func TestElementsOfARequestAreCountedBeforeDecoding(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	for name, test := range map[string]struct {
		path string
		body []byte
	}{
		"out of sync": {wire.PathPoll,
			bomb(t, `{"name":"ship1","report":{"self":{"outOfSync":[`, "{}", 1_390_000, `]}}}`)},
		"descendants": {wire.PathPoll, bomb(t, `{"name":"ship1","report":{"descendants":[`, "{}", 1_390_000, `]}}`)},
		"null":        {wire.PathPoll, bomb(t, `{"name":"ship1","report":{"descendants":[`, "0", 2_000_000, `]}}`)},
		"wanted":      {wire.PathPlan, bomb(t, `{"name":"ship1","want":[`, "{}", 1_390_000, `]}`)},
		"blobs":       {wire.PathBlobs, bomb(t, `{"name":"ship1","want":[`, "{}", 1_390_000, `]}`)},
	} {
		if len(test.body) > 2000 {
			t.Errorf("%s: the body has %d bytes", name, len(test.body))
		}
		used := allocated(func() {
			if resp, p := f.post(t, test.path, "zstd", test.body); resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d %+v", name, resp.StatusCode, p)
			}
		})
		if used > 16<<20 {
			t.Errorf("%s: %d MiB are allocated", name, used>>20)
		}
	}
}

func TestLongTextsOfAPollAreRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	_, err := f.client.Poll(t.Context(), wire.PollRequest{InstanceID: "instance", Feed: strings.Repeat("x", 1<<20)})
	if codeOf(err) != "INVALID" {
		t.Error(err)
	}
}

func TestAnswersAreCompressedOnlyIfAccepted(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	for i := range 50 {
		f.image("app/a", "1", "tag-"+strings.Repeat("x", i))
	}
	for _, accept := range []string{"", "gzip", "gzip, zstd"} {
		r, err := http.NewRequest(http.MethodPost, f.server.URL+wire.PathPoll,
			strings.NewReader(`{"name":"ship1","instanceId":"instance"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ship1", "secret")
		r.Header.Set("Accept-Encoding", accept)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, want := resp.Header.Get("Content-Encoding"), ""
		if strings.Contains(accept, "zstd") {
			want = "zstd"
		}
		if got != want {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q, want %q", accept, got, want)
		}
	}
}

// TestRequestOfAClientThatLeftIsDropped includes a client that leaves after its body came.
func TestRequestOfAClientThatLeftIsDropped(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 20 { // the body may be read, or not
		r := httptest.NewRequestWithContext(gone, http.MethodPost, wire.PathPoll,
			strings.NewReader(`{"name": "ship1", "instanceId": "instance"}`))
		r.SetBasicAuth("ship1", "secret")
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		if w.Code < 500 {
			t.Errorf("a client that left is answered with %d: %s", w.Code, w.Body)
		}
	}
}
