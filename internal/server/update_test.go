package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/mirror"
)

// A user sends requests to an instance with a login.
type user struct{ url, name, password string }

// send sends a request and returns the answer's status, header and body.
func (u user) send(
	t *testing.T, method, path string, body []byte, header ...string,
) (status int, h http.Header, text []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(u.name, u.password)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, text
}

// do sends a request and returns the answer's header and body. It is an error if the status
// is not want.
func (u user) do(t *testing.T, want int, method, path string, body []byte, header ...string) (http.Header, []byte) {
	t.Helper()
	status, h, text := u.send(t, method, path, body, header...)
	if status != want {
		t.Errorf("%s %s: %d %.300s; want %d", method, path, status, text, want)
	}
	return h, text
}

// api reads a resource of the management API.
func (u user) api(t *testing.T, path string, v any) {
	t.Helper()
	_, text := u.do(t, 200, "GET", "/api/v1/"+path, nil)
	if err := json.Unmarshal(text, v); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

// hasContent checks that all tags, manifests and blobs of d are served to u.
func (u user) hasContent(t *testing.T, d *earlierDir) {
	t.Helper()
	for _, row := range d.texts("tags", "repository", "name", "digest") {
		h, _ := u.do(t, 200, "HEAD", "/v2/"+row[0]+"/manifests/"+row[1], nil, "Accept", "*/*")
		if got := h.Get("Docker-Content-Digest"); got != row[2] {
			t.Errorf("%s:%s is %s, want %s", row[0], row[1], got, row[2])
		}
	}
	for kind, table := range map[string]string{"manifests": "manifests", "blobs": "repository_blobs"} {
		rows := d.texts(table, "repository", "digest")
		if len(rows) == 0 {
			t.Errorf("there are no %s", kind)
		}
		for _, row := range rows {
			_, body := u.do(t, 200, "GET", "/v2/"+row[0]+"/"+kind+"/"+row[1], nil, "Accept", "*/*")
			if got := fmt.Sprintf("sha256:%x", sha256.Sum256(body)); got != row[1] {
				t.Errorf("%s@%s has the content of %s", row[0], row[1], got)
			}
		}
	}
}

func TestDataDirectoryOfAnEarlierBuildIsUpdated(t *testing.T) {
	for _, build := range []string{"df51880", "7c7bb01"} {
		t.Run(build, func(t *testing.T) {
			t.Run("sqlite", func(t *testing.T) { testUpdate(t, build, "") })
			t.Run("postgres", func(t *testing.T) {
				if testing.Short() {
					t.Skip("its SQL and its Go are those of SQLite")
				}
				testUpdate(t, build, dbtest.PostgresURL(t))
			})
		})
	}
}

func testUpdate(t *testing.T, build, database string) {
	saved := readEarlierDir(t, build, "root")
	var facts earlierFacts
	readEarlier(t, build, "facts", &facts)
	cfg := configIn(t.TempDir())
	cfg.Database = database
	saved.write(t, cfg.DataDir, database)
	ready, _ := run(t, cfg)
	admin := user{ready.URL, "admin", strings.TrimSpace(saved.file("initial-admin-password"))}

	admin.hasContent(t, saved)
	hasPassword(t, cfg.DataDir, saved)
	checkControlPlane(t, admin)
	line := user{ready.URL, "line1", facts.Token}
	line.do(t, 200, "GET", "/v2/factory/large/manifests/v1", nil, "Accept", "*/*")
	line.do(t, 403, "GET", "/v2/mirror/alpine/manifests/3", nil, "Accept", "*/*")
	user{ready.URL, "line1", "wrong"}.do(t, 401, "GET", "/v2/", nil)
	finishUpload(t, admin, facts.Upload)
	v2 := pushNext(t, admin)

	t.Run("synced", func(t *testing.T) {
		ship := startShip(t, build, "ship1", facts, ready.URL)
		ship.await(t, "factory/app", "v2", v2)
		line := user{ship.url, "line1", facts.Token}
		line.hasContent(t, readEarlierDir(t, build, "ship1"))
	})
	t.Run("stopped", func(t *testing.T) {
		image := manifestOf(t, saved, "base/os", "v1")
		layer := fmt.Sprintf("sha256:%x", sha256.Sum256(seeded("os1", 3<<20)))
		proxy := newCountingProxy(t, ready.URL, layer)
		ship := startShip(t, build, "ship2", facts, proxy.url)
		ship.await(t, "base/os", "v1", image)
		var have int64
		for _, f := range readEarlierDir(t, build, "ship2").Files {
			for _, r := range f.Ranges {
				have += int64(r[1] - r[0])
			}
		}
		if got, most := proxy.total(), int64(3<<20)-have/2; have == 0 || got == 0 || got > most {
			t.Errorf("%d bytes of the layer were fetched, want at most %d: %d were on the disk", got, most, have)
		}
		ship.hasContent(t, readEarlierDir(t, build, "ship2"))
	})
}

// hasPassword checks that the password of the mirror rule's source can be decrypted.
func hasPassword(t *testing.T, dataDir string, saved *earlierDir) {
	t.Helper()
	key, err := mirror.OpenKey(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range saved.texts("mirror_rules", "name", "spec", "secret") {
		if row[0] != "alpine" {
			continue
		}
		spec, err := mirror.SpecOf(metadb.MirrorRule{Spec: []byte(row[1])})
		if err != nil {
			t.Fatal(err)
		}
		location, err := mirror.ParseLocation(spec.Source)
		if err != nil {
			t.Fatal(err)
		}
		if password, err := key.Decrypt(location, row[2]); !strings.HasPrefix(password, "ferry_") {
			t.Errorf("the password of the source is %q, %v", password, err)
		}
	}
}

// checkControlPlane checks what the management API of the root says.
func checkControlPlane(t *testing.T, admin user) {
	t.Helper()
	var m struct{ Description string }
	if admin.api(t, "scope-maps/pullers", &m); m.Description != "for the line" {
		t.Errorf("the scope map is %+v", m)
	}
	var rule struct {
		Username string
		Status   struct {
			State           string
			LastSuccessTime *time.Time
			ItemsSynced     int
		}
	}
	admin.api(t, "mirror-rules/alpine", &rule)
	if s := rule.Status; s.State != "InSync" || s.ItemsSynced != 1 || s.LastSuccessTime == nil ||
		rule.Username != "admin" {
		t.Errorf("the mirror rule is %+v", rule)
	}
	admin.api(t, "mirror-rules/broken", &rule)
	if s := rule.Status; s.State != "Interrupted" && s.State != "Running" || s.LastSuccessTime != nil {
		t.Errorf("the mirror rule whose run has to be retried is %+v", rule)
	}
	var status struct {
		LastRefusedLogin *struct{ Reason string }
	}
	admin.api(t, "connected-registries/ship1/sync-status", &status)
	if l := status.LastRefusedLogin; l == nil || !strings.Contains(l.Reason, "the password is wrong") {
		t.Errorf("the last refused login is %+v", l)
	}
	_, items := admin.do(t, 200, "GET", "/api/v1/connected-registries/ship2/sync-items", nil)
	if !strings.Contains(string(items), `"bytesTotal":3145728`) {
		t.Errorf("the items of the stopped site are %s", items)
	}
	var audit struct {
		Value []struct{ Action, Object string }
	}
	if admin.api(t, "audit-log", &audit); !strings.Contains(fmt.Sprint(audit), "{write scope-maps/pullers}") {
		t.Errorf("the audit log is %+v", audit)
	}
	_, text := admin.do(t, 200, "GET", "/acr/v1/factory/app/_tags/v1", nil)
	if !strings.Contains(string(text), `"deleteEnabled":false`) {
		t.Errorf("the locked tag is %s", text)
	}
}

// finishUpload sends the rest of the upload that had not ended.
func finishUpload(t *testing.T, admin user, path string) {
	t.Helper()
	whole := seeded("upload", 3000)
	h, _ := admin.do(t, 204, "GET", path, nil)
	if got := h.Get("Range"); got != "0-1999" {
		t.Errorf("the upload has the range %q", got)
	}
	admin.do(t, 201, "PUT", path+fmt.Sprintf("?digest=sha256:%x", sha256.Sum256(whole)), whole[2000:])
}

// pushNext pushes factory/app:v2, an index without manifests, and returns its digest.
func pushNext(t *testing.T, admin user) string {
	t.Helper()
	const index = "application/vnd.oci.image.index.v1+json"
	h, _ := admin.do(t, 201, "PUT", "/v2/factory/app/manifests/v2",
		[]byte(`{"schemaVersion":2,"mediaType":"`+index+`","manifests":[]}`), "Content-Type", index)
	return h.Get("Docker-Content-Digest")
}

// manifestOf returns the digest of a tag.
func manifestOf(t *testing.T, d *earlierDir, repository, tag string) string {
	t.Helper()
	for _, row := range d.texts("tags", "repository", "name", "digest") {
		if row[0] == repository && row[1] == tag {
			return row[2]
		}
	}
	t.Fatalf("there is no %s:%s", repository, tag)
	return ""
}

// startShip starts a connected registry of a build, whose parent is at parentURL, and returns
// its administrator.
func startShip(t *testing.T, build, name string, facts earlierFacts, parentURL string) user {
	t.Helper()
	saved := readEarlierDir(t, build, name)
	cfg := configIn(t.TempDir())
	saved.write(t, cfg.DataDir, "")
	cfg.ConnectionString = strings.Replace(facts.Connections[name], "PARENT",
		strings.TrimPrefix(parentURL, "http://"), 1)
	ready, _ := run(t, cfg)
	return user{ready.URL, "admin", strings.TrimSpace(saved.file("initial-admin-password"))}
}

// await waits until a tag is served with a digest.
func (u user) await(t *testing.T, repository, tag, digest string) {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		status, text := get(t, u.url+"/v2/"+repository+"/manifests/"+tag, u.name, u.password)
		last = fmt.Sprintf("%d %.300s", status, text)
		if status == 200 && fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) == digest {
			return
		}
	}
	t.Fatalf("%s:%s did not arrive: %s", repository, tag, last)
}

// A countingProxy counts the bytes of one blob on their way from a parent.
type countingProxy struct {
	url  string
	mu   sync.Mutex
	sent int64
}

func newCountingProxy(t *testing.T, parentURL, digest string) *countingProxy {
	t.Helper()
	target, err := url.Parse(parentURL)
	if err != nil {
		t.Fatal(err)
	}
	p := &countingProxy{}
	reverse := httputil.NewSingleHostReverseProxy(target)
	reverse.ErrorLog = log.New(io.Discard, "", 0) // a poll ends with the connected registry
	reverse.ModifyResponse = func(r *http.Response) error {
		if strings.HasSuffix(r.Request.URL.Path, "/blobs/"+digest) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.sent += r.ContentLength
		}
		return nil
	}
	srv := httptest.NewServer(reverse)
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func (p *countingProxy) total() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}
