package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ferry/internal/auth"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// noAccess authorises everybody, without access to any repository.
type noAccess struct{ Authorizer }

func (noAccess) Authorize(*http.Request, ...auth.Access) (auth.Grant, error) {
	return auth.Grant{}, nil
}

func TestCatalogRequestScansABoundedNumberOfRepositories(t *testing.T) {
	db := dbtest.SQLite(t)
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		for i := range 2*maxPageSize + 10 {
			if err := tx.TouchRepository(fmt.Sprintf("r%04d", i), time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{Storage: storagetest.New(t, storage.Options{DB: db}).Storage, Authorizer: noAccess{}})
	g.scan = 2 * maxPageSize
	path := "/v2/_catalog?n=7"
	for _, next := range []string{fmt.Sprintf("last=r%04d", 2*maxPageSize-1), ""} {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		link := w.Header().Get("Link")
		if w.Code != 200 || w.Body.String() != `{"repositories":[]}` || !strings.Contains(link, next) || next == "" &&
			link != "" {
			t.Fatalf("%d %s, Link %q, want %q", w.Code, w.Body, link, next)
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
	}
}
