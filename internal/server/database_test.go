package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/server"
)

// A databaseRoot is a root on a PostgreSQL that the test stalls and stops.
type databaseRoot struct {
	*reloadable
	server   *dbtest.Server
	url      string // of the database
	password string
	token    string // for pulls of app
	layer    string // the digest of a layer of app:v1
}

// newDatabaseRoot starts a root with the image app:v1, which a client has pulled.
func newDatabaseRoot(t *testing.T, settings ...string) *databaseRoot {
	t.Helper()
	r := &databaseRoot{server: dbtest.NewServer(t, settings...)}
	r.url = r.server.Create(t, "ferry")
	cfg := configIn(t.TempDir())
	cfg.Database, cfg.DatabaseTimeout = r.url, time.Second
	r.reloadable = runReloadable(t, cfg)
	r.password = passwordOf(t, r.Ready)
	r.pushImage(t, "v1")
	r.pushImage(t, "v2")
	_, body := get(t, r.URL+"/oauth2/token?service=x&scope=repository:app:pull", "admin", r.password)
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	r.token = answer.Token
	r.ask(t, "GET", "/v2/app/manifests/v1", "").expect(t, 200)
	return r
}

// An answered is what a client saw of an answer.
type answered struct {
	request    string
	status     int
	retryAfter string
	body       string
}

func (a answered) expect(t *testing.T, status int) {
	t.Helper()
	if a.status != status || status == 503 && a.retryAfter == "" {
		t.Errorf("%s: %d, Retry-After %q, %.300s; want %d", a.request, a.status, a.retryAfter, a.body, status)
	}
}

// ask sends a request. Its client gives up after half a minute.
func (r *databaseRoot) ask(t *testing.T, method, path, body string, header ...string) answered {
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return answered{}
	}
	req.SetBasicAuth("admin", r.password)
	req.Header.Set("Accept", "*/*")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	a := answered{request: method + " " + path}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		a.body = err.Error()
		return a
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	a.status, a.retryAfter, a.body = resp.StatusCode, resp.Header.Get("Retry-After"), string(text)
	return a
}

const (
	imageManifest = "application/vnd.oci.image.manifest.v1+json"
	imageIndex    = "application/vnd.oci.image.index.v1+json"
	emptyIndex    = `{"schemaVersion":2,"mediaType":"` + imageIndex + `","manifests":[]}`
)

// pushImage pushes an image with one layer.
func (r *databaseRoot) pushImage(t *testing.T, tag string) {
	t.Helper()
	descriptor := func(mediaType, content string) string {
		d := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))
		r.ask(t, "POST", "/v2/app/blobs/uploads/?digest="+d, content).expect(t, 201)
		if tag == "v1" {
			r.layer = d
		}
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, d, len(content))
	}
	config := descriptor("application/vnd.oci.image.config.v1+json", `{}`)
	layer := descriptor("application/vnd.oci.image.layer.v1.tar", "layer of "+tag)
	r.ask(t, "PUT", "/v2/app/manifests/"+tag, fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, imageManifest, config, layer),
		"Content-Type", imageManifest).expect(t, 201)
}

// checkOutage checks the answers while the database does not answer.
func (r *databaseRoot) checkOutage(t *testing.T) {
	t.Helper()
	login := []string{"Content-Type", "application/json"}
	var all sync.WaitGroup
	for _, c := range []struct {
		want               int
		method, path, body string
		header             []string
	}{
		{200, "GET", "/v2/", "", nil},
		{200, "GET", "/oauth2/token?service=x&scope=repository:app:pull", "", nil},
		{200, "GET", "/v2/app/manifests/v1", "", nil},
		{200, "GET", "/v2/app/manifests/v1", "", []string{"Authorization", "Bearer " + r.token}},
		{200, "GET", "/v2/app/blobs/" + r.layer, "", []string{"Authorization", "Bearer " + r.token}},
		{206, "GET", "/v2/app/blobs/" + r.layer, "", []string{"Range", "bytes=1-2"}},
		{200, "GET", "/health", "", nil},
		{503, "GET", "/v2/app/manifests/v2", "", nil},
		{503, "GET", "/v2/app/tags/list", "", nil},
		{503, "GET", "/v2/_catalog", "", nil},
		{503, "GET", "/v2/other/blobs/" + r.layer, "", nil},
		{503, "POST", "/v2/app/blobs/uploads/", "", nil},
		{503, "PUT", "/v2/app/manifests/v3", emptyIndex, []string{"Content-Type", imageIndex}},
		{503, "DELETE", "/v2/app/manifests/v1", "", nil},
		{503, "GET", "/acr/v1/_catalog", "", nil},
		{503, "GET", "/api/v1/repositories", "", nil},
		{503, "PUT", "/api/v1/scope-maps/s1", `{"actions":["repositories/app/content/read"]}`, login},
	} {
		all.Go(func() { r.ask(t, c.method, c.path, c.body, c.header...).expect(t, c.want) })
	}
	for _, path := range []string{"/health/ready", "/health/sync"} {
		all.Go(func() {
			if a := r.ask(t, "GET", path, ""); a.status != 503 {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		})
	}
	all.Wait()
}

// lines counts the lines of the log that have a text.
func (r *databaseRoot) lines(text string) int {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return bytes.Count(r.log.text.Bytes(), []byte(text))
}

// checkLog checks that the log has the beginning and the end of outages, and no line for a request.
func (r *databaseRoot) checkLog(t *testing.T, outages int) {
	t.Helper()
	for text, want := range map[string]int{
		"the database does not answer": outages, "the database answers again": outages,
		"request failed": 0, "panicked": 0,
	} {
		if n := r.lines(text); n != want {
			t.Errorf("the log has %d lines with %q, want %d", n, text, want)
		}
	}
}

func TestStalledDatabaseHangsNothing(t *testing.T) {
	t.Parallel()
	r := newDatabaseRoot(t)
	r.server.Stall(t)
	r.checkOutage(t)
	r.log.line(t, "the database does not answer")
	r.checkOutage(t)
	r.server.Resume(t)
	r.log.line(t, "the database answers again")
	r.ask(t, "GET", "/v2/app/manifests/v2", "").expect(t, 200)
	r.pushImage(t, "v3")
	r.ask(t, "GET", "/health/ready", "").expect(t, 200)
	r.checkLog(t, 1)
}

func TestStoppedDatabaseIsA503UntilItIsBack(t *testing.T) {
	t.Parallel()
	r := newDatabaseRoot(t)
	r.server.Stop(t)
	r.checkOutage(t)
	r.server.Start(t)
	r.log.line(t, "the database answers again")
	for range 300 {
		r.ask(t, "GET", "/v2/app/tags/list", "").expect(t, 200)
	}
	r.pushImage(t, "v3")
	r.checkLog(t, 1)
}

func TestTerminatedBackendsAreNotSeenByClients(t *testing.T) {
	t.Parallel()
	r := newDatabaseRoot(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				r.ask(t, "GET", "/v2/app/tags/list", "").expect(t, 200)
				r.pushIndex(t, fmt.Sprintf("many%d", i), fmt.Sprint(n))
			}
		})
	}
	for range 5 {
		r.server.TerminateAll(t)
	}
	all.Wait()
	r.checkLog(t, 0)
}

// pushIndex pushes an index without manifests.
func (r *databaseRoot) pushIndex(t *testing.T, repository, tag string) {
	r.ask(t, "PUT", "/v2/"+repository+"/manifests/"+tag, emptyIndex, "Content-Type", imageIndex).expect(t, 201)
}

func TestPullsDoNotWaitForPushesThatWait(t *testing.T) {
	r := newDatabaseRoot(t)
	unlock := dbtest.LockWriters(t, r.url)
	var pushes sync.WaitGroup
	for i := range 20 {
		pushes.Go(func() {
			if a := r.ask(t, "POST", "/v2/app/blobs/uploads/", ""); a.status != 202 {
				t.Errorf("push %d: %d %s", i, a.status, a.body)
			}
		})
	}
	for range 50 {
		r.ask(t, "GET", "/v2/app/blobs/"+r.layer, "").expect(t, 200)
	}
	unlock()
	pushes.Wait()
}

func TestSecondProcessWithOtherBlobsIsRefused(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.Database = dbtest.PostgresURL(t)
	_, stop := run(t, cfg)
	other := configIn(t.TempDir())
	other.Database = cfg.Database
	var hint interface{ Hint() string }
	err := start(t, other, server.Options{})
	if !errors.Is(err, metadb.ErrInUse) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "--database") {
		t.Errorf("the second process = %v, want %v and a hint", err, metadb.ErrInUse)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
}
