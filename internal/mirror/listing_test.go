package mirror_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
	"ferry/internal/storage"
)

func TestEmptySourceRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		if err := h.upstream.DeleteTag(t.Context(), "app", "1"); err != nil {
			t.Fatal(err)
		}
		if row := h.runRule(); !strings.Contains(row.Error, "no tags at all") {
			t.Errorf("the run ended with %q", row.Error)
		}
		if err := h.upstream.DeleteRepository(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		if row := h.runRule(); !strings.Contains(row.Error, "upstream.example has no repository app") {
			t.Errorf("the run ended with %q", row.Error)
		}
		if h.tags("local/app")["1"] != d {
			t.Error("the image is gone")
		}
	})
}

// hideManifests makes the upstream answer 404 for the manifests of these tags, or of all
// tags if there are none, and list the tags as before.
func (u *upstream) hideManifests(tags ...string) {
	u.set(func() {
		u.before = func(w http.ResponseWriter, r *http.Request) bool {
			_, reference, ok := strings.Cut(r.URL.Path, "/manifests/")
			if !ok || len(tags) > 0 && !strings.HasPrefix(reference, tags[0]) {
				return false
			}
			w.WriteHeader(http.StatusNotFound)
			return true
		}
	})
}

func TestSourceWithoutManifestsRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		want := map[string]digest.Digest{"1": h.upstream.image("app", "one", 10, "1"),
			"2": h.upstream.image("app", "two", 10, "2")}
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		h.upstream.hideManifests()
		if row := h.runRule(); !strings.Contains(row.Error, "has no manifest for any of them; nothing was removed") {
			t.Errorf("the run ended with %q", row.Error)
		}
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestListedTagWithoutManifestIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		lost := h.upstream.image("app", "lost", 10, "lost")
		h.upstream.image("app", "gone", 10, "gone")
		signature := strings.Replace(string(lost), ":", "-", 1) + ".sig"
		signed := h.upstream.image("app", "signature", 10, signature)
		h.upstream.image("app", "good", 10, "good")
		h.rule(mirror.Spec{TagFilters: []string{"*"}})
		h.awaitRun(time.Time{})

		h.upstream.hideManifests("lost")
		later := h.upstream.image("app", "later", 10, "good")
		if row := h.runRule(); !strings.Contains(row.Error,
			"no manifest for 1 of the tags that it lists, such as lost") {
			t.Errorf("the run ended with %q", row.Error)
		}
		if tags := h.tags("local/app"); tags["lost"] != lost || tags[signature] != signed || tags["good"] != later {
			t.Errorf("with a dangling tag, the tags are %v", tags)
		}
		// A tag can be deleted between the list and the request for its manifest.
		h.upstream.set(func() {
			h.upstream.before = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/manifests/gone") {
					h.upstream.DeleteTag(r.Context(), "app", "gone")
				}
				return false
			}
		})
		if row := h.runRule(); row.Error != "" {
			t.Error(row.Error)
		}
		if tags := h.tags("local/app"); len(tags) != 3 || tags["gone"] != "" {
			t.Errorf("after a deletion, the tags are %v", tags)
		}
	})
}

func TestFiltersThatMatchNothingRemoveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1.0")
		h.upstream.image("app", "signature", 10, strings.Replace(string(d), ":", "-", 1)+".sig")
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		h.rule(mirror.Spec{TagFilters: []string{"v1.*"}})
		if row := h.runRule(); row.Error != "no tag of the source matches the filters; nothing was removed" {
			t.Errorf("the run ended with %q", row.Error)
		}
		if tags := h.tags("local/app"); len(tags) != 2 {
			t.Errorf("there is %v", tags)
		}
	})
}

func TestEveryPageOfTagsIsRead(t *testing.T) {
	for link, readable := range map[string]bool{
		`</v2/app/tags/list?%s>; rel="next"`:                          true,
		`</v2/app/tags/list?%s>; type="application/json"; rel="next"`: true,
		`/v2/app/tags/list?%s; rel="next"`:                            false,
		`</v2/app/tags/list?%s; rel="next"`:                           false,
	} {
		t.Run(link, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, want := fiveTags(t)
				pages := [][]string{{"v1", "v2"}, {}, {"v3", "v4"}, {"v5"}}
				h.upstream.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					lists := strings.HasSuffix(r.URL.Path, "/tags/list")
					if lists {
						page, _ := strconv.Atoi(r.URL.Query().Get("page"))
						if page+1 < len(pages) {
							w.Header().Set("Link", fmt.Sprintf(link, fmt.Sprint("page=", page+1)))
						}
						json.NewEncoder(w).Encode(map[string]any{"name": "app", "tags": pages[page]})
					}
					return lists
				})
				row := h.runRule()
				if state := mirror.RuleStateOf(row, false); (state == mirror.InSync) != readable {
					t.Errorf("it is %s: %s", state, row.Error)
				}
				if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestOnlySelectedTagIsKeptInSyncWhenHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		u.image("app", "one", 10, "v1")
		h.rule(mirror.Spec{TagFilters: []string{"v*"}})
		h.awaitRun(time.Time{})
		if err := u.ChangeLocks(t.Context(), "app", "v1", storage.LockChange{Set: storage.NoList}); err != nil {
			t.Fatal(err)
		}
		d := u.image("app", "two", 10, "v1")
		if row := h.runRule(); row.Error != "" || h.tags("local/app")["v1"] != d {
			t.Errorf("%q, there is %v", row.Error, h.tags("local/app"))
		}
	})
}

// The source, another Ferry, hides tags from its lists.
func TestHiddenTagIsKeptInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		want := map[string]digest.Digest{"v1": u.image("app", "one", 10, "v1"), "v2": u.image("app", "two", 10, "v2")}
		for i := range 10 { // so that two deleted tags are few of them
			tag := fmt.Sprint("v0.", i)
			want[tag] = u.image("app", tag, 10, tag)
		}
		signature := strings.Replace(string(want["v1"]), ":", "-", 1) + ".sig"
		want[signature] = u.image("app", "signature", 10, signature)
		h.rule(mirror.Spec{TagFilters: []string{"v*"}})
		h.awaitRun(time.Time{})
		for _, tag := range []string{"v2", signature} {
			if err := u.ChangeLocks(t.Context(), "app", tag, storage.LockChange{Set: storage.NoList}); err != nil {
				t.Fatal(err)
			}
		}
		ask := func() {
			t.Helper()
			if row := h.runRule(); row.Error != "" || row.EndedAt.Sub(row.StartedAt) > time.Minute {
				t.Errorf("%+v", row)
			}
			if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
				t.Error(diff)
			}
		}
		ask()
		want["v2"] = u.image("app", "three", 10, "v2")
		ask()
		u.intercept(func(w http.ResponseWriter, r *http.Request) bool { // it is unknown whether the tag exists
			fails := strings.HasSuffix(r.URL.Path, "/manifests/v2")
			if fails {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return fails
		})
		h.runRule()
		u.intercept(nil)
		ask()
		for _, tag := range []string{"v2", signature} {
			if err := u.DeleteTag(t.Context(), "app", tag); err != nil {
				t.Fatal(err)
			}
			delete(want, tag)
		}
		ask()
	})
}
