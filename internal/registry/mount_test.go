package registry_test

import (
	"testing"

	"ferry/internal/metadb/dbtest"
)

func TestBlobIsMountedOnlyFromReadableRepositories(t *testing.T) {
	s := newInstanceOn(t, dbtest.SQLite(t), directory{
		"pusher": {"repositories/b/content/read", "repositories/b/content/write", "repositories/a/content/read"},
		"narrow": {"repositories/b/content/read", "repositories/b/content/write"},
	})
	d := s.pushBlob("a", "hello")
	mount := "/v2/b/blobs/uploads/?mount=" + d.String()
	for name, c := range map[string]struct {
		user, from string
		status     int
	}{
		"no right on the source":    {"narrow", "&from=a", 202},
		"no source":                 {"pusher", "", 202},
		"a malformed source":        {"pusher", "&from=..", 202},
		"a source that lacks it":    {"all", "&from=c", 202},
		"a source that may be read": {"pusher", "&from=a", 201},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.as(c.user)
			s.t = t
			a := s.do("POST", mount+c.from, "").want(t, c.status)
			if c.status == 202 {
				// The client must upload it.
				s.do("PATCH", a.header.Get("Location"), "hel").want(t, 202)
				return
			}
			if got := s.do("GET", a.header.Get("Location"), "").want(t, 200); got.body != "hello" {
				t.Errorf("content %q", got.body)
			}
			s.as("all").do("DELETE", "/v2/b/blobs/"+d.String(), "").want(t, 202)
		})
	}
}

func TestBlobIsNotMountedFromReadLockedRepository(t *testing.T) {
	s := newInstance(t)
	d := s.pushBlob("a", "hello")
	s.do("PATCH", "/acr/v1/a", `{"readEnabled":false}`).want(t, 200)
	s.do("GET", "/v2/a/blobs/"+d.String(), "").want(t, 403, "DENIED")
	s.do("POST", "/v2/b/blobs/uploads/?from=a&mount="+d.String(), "").want(t, 202)
	s.do("GET", "/v2/b/blobs/"+d.String(), "").want(t, 404, "BLOB_UNKNOWN")
	s.do("PATCH", "/acr/v1/a", `{"readEnabled":true}`).want(t, 200)
	s.do("POST", "/v2/b/blobs/uploads/?from=a&mount="+d.String(), "").want(t, 201)
}
