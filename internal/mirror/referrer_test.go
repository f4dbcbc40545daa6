package mirror_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
)

func TestReferrersOfUnchangedImagesAreAddedAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		child := u.image("app", "amd64", 10)
		index := u.index("app", []digest.Digest{child}, "1")
		early := u.referrer("app", "signature that came with the image", index)
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})

		late := u.referrer("app", "signature of the index", index)
		below := u.referrer("app", "sbom of the child", child)
		above := u.referrer("app", "signature of the sbom", below)
		u.requestCount("GET manifests")
		if row := h.runRule(); row.Error != "" {
			t.Error(row.Error)
		}
		for _, d := range []digest.Digest{early, late, below, above} {
			if !h.has("local/app", d) {
				t.Errorf("%s is not here", d)
			}
		}
		if n := u.requestCount("GET manifests"); n != 3 {
			t.Errorf("%d manifests were read for three new ones", n)
		}
		u.requestCount("GET referrers")
		h.runRule()
		if gets, questions := u.requestCount("GET manifests"), u.requestCount("GET referrers"); gets != 0 ||
			questions != 6 {
			t.Errorf("%d requests for manifests and %d for referrers, want none and 6",
				gets, questions)
		}
		own := h.referrer("local/app", "signature that was pushed here", index)

		for _, d := range []digest.Digest{early, late, above} {
			if err := u.DeleteManifest(t.Context(), "app", d); err != nil {
				t.Fatal(err)
			}
		}
		if row := h.runRule(); row.Error != "" {
			t.Error(row.Error)
		}
		for d, want := range map[digest.Digest]bool{
			early: false, late: false, above: false, below: true, own: true, index: true,
		} {
			if h.has("local/app", d) != want {
				t.Errorf("%s is here: %v", d, !want)
			}
		}
		u.image("app", "another", 10, "1")
		h.runRule()
		if h.has("local/app", index) || h.has("local/app", below) {
			t.Error("an image was removed, but its SBOM was not")
		}
	})
}

func TestSourceWithoutReferrersRemovesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		signed := u.image("app", "1", 10, "1")
		signature := u.referrer("app", "signature", signed)
		u.image("app", "2", 10, "2")
		u.image("app", "3", 10, "3")
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		u.set(func() {
			u.before = func(w http.ResponseWriter, r *http.Request) bool {
				unknown := strings.Contains(r.URL.Path, "/referrers/")
				if unknown {
					w.WriteHeader(http.StatusNotFound)
				}
				return unknown
			}
		})
		u.requestCount("GET referrers")
		for range 2 {
			if row := h.runRule(); row.Error != "" {
				t.Error(row.Error)
			}
			if n := u.requestCount("GET referrers"); n != 1 {
				t.Errorf("it was asked %d times", n)
			}
		}
		if !h.has("local/app", signature) {
			t.Error("the signature was removed")
		}
	})
}

// A local tag keeps an image here that no tag of the source names any more.
func TestKeptImageKeepsItsSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		signed := u.image("app", "1", 10, "v1")
		tag := strings.Replace(string(signed), ":", "-", 1) + ".sig"
		u.image("app", "signature", 10, tag)
		referrer := u.referrer("app", "sbom", signed)
		h.rule(mirror.Spec{TagFilters: []string{"v*"}})
		h.awaitRun(time.Time{})
		if err := h.content.SetTag(t.Context(), "local/app", "prod", signed); err != nil {
			t.Fatal(err)
		}
		u.image("app", "2", 10, "v1")
		h.runRule()
		if h.tags("local/app")[tag] == "" || !h.has("local/app", referrer) {
			t.Errorf("the image stays, but its signature or its referrer was removed: %v", h.tags("local/app"))
		}
		if err := h.content.DeleteTag(t.Context(), "local/app", "prod"); err != nil {
			t.Fatal(err)
		}
		if err := h.content.DeleteManifest(t.Context(), "local/app", signed); err != nil {
			t.Fatal(err)
		}
		h.runRule()
		if h.tags("local/app")[tag] != "" || h.has("local/app", referrer) {
			t.Errorf("the image was removed, but its signature or its referrer stays: %v", h.tags("local/app"))
		}
	})
}

func TestPostponedReferrersDelayNoImage(t *testing.T) {
	for name, pause := range map[string]string{"later": "", "in half a minute": "30"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				u := h.upstream
				for _, tag := range []string{"1", "2", "3"} {
					u.image("app", tag, 10, tag)
				}
				u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					busy := strings.Contains(r.URL.Path, "/referrers/")
					if busy {
						w.Header().Set("Retry-After", pause)
						w.WriteHeader(http.StatusTooManyRequests)
					}
					return busy
				})
				h.rule(mirror.Spec{})
				row := h.awaitRun(time.Time{})
				if row.Error != "" || len(h.tags("local/app")) != 3 {
					t.Errorf("the run ended with %q, there is %v", row.Error, h.tags("local/app"))
				}
				if !strings.Contains(string(row.Warnings), string(mirror.ReferrersUnavailable)) {
					t.Errorf("the warnings are %q", row.Warnings)
				}
			})
		})
	}
}
