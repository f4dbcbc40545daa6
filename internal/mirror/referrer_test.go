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
		h := newHere(t)
		u := h.upstream
		child := u.image("app", "amd64", 10)
		index := u.index("app", []digest.Digest{child}, "1")
		early := u.referrer("app", "signature that came with the image", index)
		h.rule(mirror.Spec{})
		h.await(time.Time{})

		late := u.referrer("app", "signature of the index", index)
		below := u.referrer("app", "sbom of the child", child)
		above := u.referrer("app", "signature of the sbom", below)
		u.asked("GET manifests")
		if row := h.ask(); row.Error != "" {
			t.Error(row.Error)
		}
		for _, d := range []digest.Digest{early, late, below, above} {
			if !h.has("local/app", d) {
				t.Errorf("%s is not here", d)
			}
		}
		if n := u.asked("GET manifests"); n != 3 {
			t.Errorf("%d manifests were read for three that were new", n)
		}
		u.asked("GET referrers")
		h.ask()
		if gets, questions := u.asked("GET manifests"), u.asked("GET referrers"); gets != 0 || questions != 6 {
			t.Errorf("%d manifests were read, and %d asked for their referrers, want none and each of 6 once",
				gets, questions)
		}
		own := h.referrer("local/app", "signature that was pushed here", index)

		for _, d := range []digest.Digest{early, late, above} {
			if err := u.DeleteManifest(t.Context(), "app", d); err != nil {
				t.Fatal(err)
			}
		}
		if row := h.ask(); row.Error != "" {
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
		h.ask()
		if h.has("local/app", index) || h.has("local/app", below) {
			t.Error("an image went, and its sbom did not")
		}
	})
}

func TestSourceWithoutReferrersRemovesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHere(t)
		u := h.upstream
		signed := u.image("app", "1", 10, "1")
		signature := u.referrer("app", "signature", signed)
		u.image("app", "2", 10, "2")
		u.image("app", "3", 10, "3")
		h.rule(mirror.Spec{})
		h.await(time.Time{})
		u.set(func() {
			u.before = func(w http.ResponseWriter, r *http.Request) bool {
				unknown := strings.Contains(r.URL.Path, "/referrers/")
				if unknown {
					w.WriteHeader(http.StatusNotFound)
				}
				return unknown
			}
		})
		u.asked("GET referrers")
		for range 2 {
			if row := h.ask(); row.Error != "" {
				t.Error(row.Error)
			}
			if n := u.asked("GET referrers"); n != 1 {
				t.Errorf("it was asked %d times", n)
			}
		}
		if !h.has("local/app", signature) {
			t.Error("the signature went")
		}
	})
}

// TestKeptImageKeepsItsSignatures has a tag of somebody's here keep an
// image that the source's tag left.
func TestKeptImageKeepsItsSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHere(t)
		u := h.upstream
		signed := u.image("app", "1", 10, "v1")
		tag := strings.Replace(string(signed), ":", "-", 1) + ".sig"
		u.image("app", "signature", 10, tag)
		referrer := u.referrer("app", "sbom", signed)
		h.rule(mirror.Spec{TagFilters: []string{"v*"}})
		h.await(time.Time{})
		if err := h.content.SetTag(t.Context(), "local/app", "prod", signed); err != nil {
			t.Fatal(err)
		}
		u.image("app", "2", 10, "v1")
		h.ask()
		if h.tags("local/app")[tag] == "" || !h.has("local/app", referrer) {
			t.Errorf("the image stays, and its signature or its referrer went: %v", h.tags("local/app"))
		}
		if err := h.content.DeleteTag(t.Context(), "local/app", "prod"); err != nil {
			t.Fatal(err)
		}
		if err := h.content.DeleteManifest(t.Context(), "local/app", signed); err != nil {
			t.Fatal(err)
		}
		h.ask()
		if h.tags("local/app")[tag] != "" || h.has("local/app", referrer) {
			t.Errorf("the image went, and its signature or its referrer stays: %v", h.tags("local/app"))
		}
	})
}

func TestPostponedReferrersDelayNoImage(t *testing.T) {
	for name, pause := range map[string]string{"later": "", "in half a minute": "30"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHere(t)
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
				row := h.await(time.Time{})
				if row.Error != "" || len(h.tags("local/app")) != 3 {
					t.Errorf("the run ended with %q, there is %v", row.Error, h.tags("local/app"))
				}
				if !strings.Contains(string(row.Warnings), string(mirror.ReferrersUnavailable)) {
					t.Errorf("it warns of %q", row.Warnings)
				}
			})
		})
	}
}
