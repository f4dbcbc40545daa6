package mirror_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
)

// hasTags makes the upstream behave as if it had only these tags.
func (u *upstream) hasTags(tags ...string) {
	u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		_, reference, ok := strings.Cut(r.URL.Path, "/manifests/")
		switch {
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			fmt.Fprintf(w, `{"tags":["%s"]}`, strings.Join(tags, `","`))
		case ok && !strings.Contains(reference, ":") && !slices.Contains(tags, reference):
			w.WriteHeader(http.StatusNotFound)
		default:
			return false
		}
		return true
	})
}

// startRun starts a run of the rule, and returns its state after d.
func (h *instance) startRun(t *testing.T, d time.Duration) mirror.RunStatus {
	t.Helper()
	time.Sleep(time.Millisecond)
	h.update(askRule)
	h.Wake()
	time.Sleep(d)
	return h.Status("r")
}

// fiveTags returns an instance that has synced the upstream's tags v1 to v5.
func fiveTags(t *testing.T) (*instance, map[string]digest.Digest) {
	t.Helper()
	h, want := newInstance(t), map[string]digest.Digest{}
	for i := 1; i <= 5; i++ {
		tag := fmt.Sprint("v", i)
		want[tag] = h.upstream.image("app", tag, 10, tag)
	}
	h.rule(mirror.Spec{})
	h.awaitRun(time.Time{})
	return h, want
}

func TestShrunkenListingRemovesNothingAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, want := fiveTags(t)
		want["v6"] = h.upstream.image("app", "new", 10, "v6")
		h.upstream.hasTags("v1", "v5", "v6")
		s := h.startRun(t, 5*time.Minute)
		if !s.Running || !strings.Contains(s.Problem, "does not list 3 of the 5 tags") ||
			!strings.Contains(s.Problem, "read again at 00:1") {
			t.Errorf("%+v", s)
		}
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Errorf("the new tag is missing, or a tag was removed: %s", diff)
		}
		h.upstream.intercept(nil) // it was an outage
		time.Sleep(10 * time.Minute)
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" || h.Status("r").Running {
			t.Errorf("%+v, %s", h.Status("r"), diff)
		}
		h.update(func(tx *metadb.Tx) error {
			row, err := tx.MirrorRule("r")
			if row.Error != "" || row.SucceededAt.IsZero() {
				t.Errorf("the run ended as %+v", row)
			}
			return err
		})
	})
}

func TestRequestedRunReadsAShrunkenListingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, want := fiveTags(t)
		h.upstream.hasTags("v1", "v5")
		h.startRun(t, time.Minute)
		want["v6"] = h.upstream.image("app", "new", 10, "v6")
		h.upstream.hasTags("v1", "v5", "v6")
		if s := h.startRun(t, time.Minute); !s.Running {
			t.Errorf("the list is still short, but the run ended: %+v", s)
		}
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Errorf("the new tag is missing, or another was removed: %s", diff)
		}
		h.upstream.intercept(nil) // it was an outage
		if s := h.startRun(t, time.Minute); s.Running {
			t.Errorf("the source lists everything again, but the run did not end: %+v", s)
		}
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSecondListingConfirmsDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, want := fiveTags(t)
		h.upstream.hasTags("v1", "v5")
		h.startRun(t, 5*time.Minute)
		h.upstream.hasTags("v1", "v2", "v5") // of the three missing tags, two are deleted
		row := h.awaitRun(time.Time{})
		if took := row.EndedAt.Sub(row.StartedAt); row.Error != "" || took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("the run ended with %q after %s", row.Error, took)
		}
		delete(want, "v3")
		delete(want, "v4")
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSuspectedLossLastsFromRunToRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, want := fiveTags(t)
		h.upstream.hasTags("v1", "v5")
		h.startRun(t, 5*time.Minute)
		h.upstream.respond(http.StatusForbidden, "/tags/list", time.Now().Add(time.Hour))
		if row := h.awaitRun(time.Time{}); !strings.Contains(row.Error, "list tags") {
			t.Errorf("the run ended with %q", row.Error)
		}
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
		h.upstream.hasTags("v1", "v5")
		row := h.runRule()
		if tags := h.tags("local/app"); row.Error != "" || len(tags) != 2 ||
			row.EndedAt.Sub(row.StartedAt) > time.Minute {
			t.Errorf("%+v, there is %v", row, tags)
		}
	})
}

func TestMissingReferrersMustBeConfirmedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		var signatures []digest.Digest
		for i := range 4 {
			d := h.upstream.image("app", fmt.Sprint(i), 10, fmt.Sprint("v", i))
			signature := h.upstream.referrer("app", fmt.Sprint("signature ", i), d)
			signatures = append(signatures, signature, h.upstream.referrer("app", fmt.Sprint("of it ", i), signature))
		}
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		has := func() (n int) {
			for _, d := range signatures {
				if h.has("local/app", d) {
					n++
				}
			}
			return n
		}
		h.upstream.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			lists := strings.Contains(r.URL.Path, "/referrers/")
			if lists {
				fmt.Fprint(w, `{"schemaVersion":2,"manifests":[]}`)
			}
			return lists
		})
		if s := h.startRun(t, 5*time.Minute); !s.Running || has() != len(signatures) {
			t.Errorf("%d are left: %+v", has(), s)
		}
		if row := h.awaitRun(time.Time{}); row.Error != "" || has() != 0 {
			t.Errorf("%d are left: %q", has(), row.Error)
		}
	})
}

func TestFewOrFilteredTagsAreRemovedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := fiveTags(t)
		h.upstream.hasTags("v1", "v2", "v3", "v4")
		if row := h.runRule(); row.Error != "" || len(h.tags("local/app")) != 4 ||
			row.EndedAt.Sub(row.StartedAt) > time.Minute {
			t.Errorf("%+v, there is %v", row, h.tags("local/app"))
		}
		h.rule(mirror.Spec{TagFilters: []string{"v1"}})
		if row := h.runRule(); row.Error != "" || len(h.tags("local/app")) != 1 ||
			row.EndedAt.Sub(row.StartedAt) > time.Minute {
			t.Errorf("%+v, there is %v", row, h.tags("local/app"))
		}
	})
}

func TestSignaturesOfReplacedImagesNeedNoConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		push := func(seed string) []string {
			var children []digest.Digest
			for i := range 3 {
				children = append(children, u.image("app", fmt.Sprint(seed, i), 10))
			}
			var tags []string
			for _, d := range append(children, u.index("app", children, "latest")) {
				tags = append(tags, strings.Replace(string(d), ":", "-", 1)+".sig")
				u.image("app", "signature of "+string(d), 10, tags[len(tags)-1])
				u.referrer("app", "sbom of "+string(d), d)
			}
			return tags
		}
		old := push("old")
		h.rule(mirror.Spec{TagFilters: []string{"latest"}})
		h.awaitRun(time.Time{})
		if n := len(h.tags("local/app")); n != 5 {
			t.Fatalf("there are %d tags", n)
		}
		push("new")
		for _, tag := range old {
			if err := u.DeleteTag(t.Context(), "app", tag); err != nil {
				t.Fatal(err)
			}
		}
		row := h.runRule()
		if n := len(h.tags("local/app")); row.Error != "" || n != 5 || row.EndedAt.Sub(row.StartedAt) > time.Minute {
			t.Errorf("%+v, there are %d tags", row, n)
		}
		u.hasTags("latest")
		if s := h.startRun(t, 5*time.Minute); !s.Running || len(h.tags("local/app")) != 5 {
			t.Errorf("%+v, there is %v", s, h.tags("local/app"))
		}
	})
}
