package registry_test

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/registry"
)

func TestInternalErrorIsLoggedAndNotSentToClients(t *testing.T) {
	db := dbtest.SQLite(t)
	var log bytes.Buffer
	h := registry.New(registry.Options{Storage: newStorage(t, db), Authorizer: anyone{},
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	db.Close()
	for _, path := range []string{"/v2/a/manifests/v1", "/v2/a/tags/list", "/v2/_catalog", "/acr/v1/a"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 500 ||
			w.Body.String() != `{"errors":[{"code":"UNKNOWN","message":"the registry failed to answer"}]}` {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if !strings.Contains(log.String(), "path="+path) || !strings.Contains(log.String(), "database is closed") {
			t.Errorf("%s: log %s", path, &log)
		}
		log.Reset()
	}
}
