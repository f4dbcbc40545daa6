package server_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ferry/internal/metadb"
)

func TestDeletesAndLocksOfClientsAreAudited(t *testing.T) {
	cfg := configIn(t.TempDir())
	r, stop := run(t, cfg)
	password := passwordOf(t, r)
	do := func(method, path, body, contentType string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", password)
		req.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	digest := func(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }
	const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	do("POST", "/v2/app/blobs/uploads/?digest="+digest("x"), "x", "application/octet-stream", 201)
	for _, tag := range []string{"v1", "v2", "v3"} {
		do("PUT", "/v2/app/manifests/"+tag, index, "application/vnd.oci.image.index.v1+json", 201)
	}
	do("PATCH", "/acr/v1/app", `{"deleteEnabled":false}`, "application/json", 200)
	do("DELETE", "/v2/app/manifests/v1", "", "", 403)
	do("PATCH", "/acr/v1/app", `{"deleteEnabled":true}`, "application/json", 200)
	do("PATCH", "/acr/v1/app/_tags/v2", `{"listEnabled":false,"readEnabled":true}`, "application/json", 200)
	do("PATCH", "/acr/v1/app/_manifests/"+digest(index), `{}`, "application/json", 200)
	do("DELETE", "/v2/app/manifests/v1", "", "", 202)
	do("DELETE", "/acr/v1/app/_tags/v2", "", "", 202)
	do("DELETE", "/v2/app/blobs/"+digest("x"), "", "", 202)
	do("DELETE", "/v2/app/manifests/"+digest(index), "", "", 202)
	do("DELETE", "/acr/v1/app", "", "", 202)
	do("DELETE", "/acr/v1/app", "", "", 404)
	do("PUT", "/v2/app/manifests/v4", index, "application/vnd.oci.image.index.v1+json", 201)
	do("DELETE", "/acr/v1/app/_manifests/"+digest(index), "", "", 202)
	do("DELETE", "/api/v1/repositories/app", "", "", 204)
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	db, err := metadb.Open(t.Context(), "sqlite:"+filepath.Join(cfg.DataDir, "ferry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	entries, err := metadb.Read(t.Context(), db,
		func(tx *metadb.Tx) ([]metadb.AuditEntry, error) { return tx.Audit(metadb.AuditQuery{Limit: 100}) })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(entries) {
		if e.Actor == "admin" && e.Sender == "127.0.0.1" {
			got = append(got, strings.TrimSpace(e.Action+" "+e.Object+" "+e.Detail))
		}
	}
	want := []string{
		"lock repositories/app deleteEnabled=false", "lock repositories/app deleteEnabled=true",
		"lock repositories/app/tags/v2 readEnabled=true listEnabled=false",
		"lock repositories/app/manifests/" + digest(index),
		"delete repositories/app/tags/v1", "delete repositories/app/tags/v2",
		"delete repositories/app/blobs/" + digest("x"),
		"delete repositories/app/manifests/" + digest(index), "delete repositories/app",
		"delete repositories/app/manifests/" + digest(index), "delete repositories/app",
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit log:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
