package mirror_test

import (
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
	"ferry/internal/storage/storagetest"
)

func TestRuleAddsMovesAndRemovesTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		first := h.upstream.image("app", "one", 300<<10, "1.0", "latest")
		old := h.upstream.image("app", "old", 10, "0.9")
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		if diff := cmp.Diff(map[string]digest.Digest{"1.0": first, "latest": first, "0.9": old},
			h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
		// Somebody else also pushes there, with and without a tag.
		own := h.image("local/app", "own", 10, "own")
		untagged := h.image("local/app", "untagged", 10)
		early := h.referrer("local/app", "signature", digest.FromString("what it signs comes later"))

		second := h.upstream.image("app", "two", 10, "latest")
		if err := h.upstream.DeleteTag(t.Context(), "app", "0.9"); err != nil {
			t.Fatal(err)
		}
		if row := h.runRule(); row.Error != "" {
			t.Error(row.Error)
		}
		if diff := cmp.Diff(map[string]digest.Digest{"1.0": first, "latest": second, "own": own},
			h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
		if h.has("local/app", old) || !h.has("local/app", untagged) || !h.has("local/app", early) {
			t.Error("a tag that the source deleted is here, or a pushed image is not")
		}
	})
}

func TestPlatformFilterSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStoppedInstance(t)
		u := h.upstream
		images := map[string]digest.Digest{}
		children := storagetest.Index()
		for _, platform := range []string{"linux/amd64", "linux/arm64", "windows/amd64"} {
			d := u.image("app", platform, 10)
			images[platform] = d
			children.Manifests = append(children.Manifests, storagetest.ReferenceFor(platform, d))
		}
		index := u.Push("app", children, "v1").Digest
		signature := strings.Replace(string(images["windows/amd64"]), ":", "-", 1) + ".sig"
		u.image("app", "signature", 10, signature)
		stop := h.start(t)
		check := func(platforms ...string) {
			t.Helper()
			for platform, d := range images {
				if has, want := h.has("local/app", d), len(platforms) == 0 ||
					slices.Contains(platforms, platform); has != want {
					t.Errorf("with %v, the image for %s is here: %v", platforms, platform, has)
				}
			}
			if h.tags("local/app")["v1"] != index {
				t.Errorf("tags: %v", h.tags("local/app"))
			}
		}
		run := func(platforms ...string) {
			t.Helper()
			h.rule(mirror.Spec{TagFilters: []string{"v*"}, Platforms: platforms})
			if row := h.runRule(); row.Error != "" {
				t.Error(row.Error)
			}
			check(platforms...)
		}
		run("linux/amd64")
		if tags := h.tags("local/app"); len(tags) != 1 {
			t.Errorf("a signature is here without its image: %v", tags)
		}
		u.requestCount("GET manifests")
		h.runRule()
		if n := u.requestCount("GET manifests"); n > 0 {
			t.Errorf("%d manifests were read without a change", n)
		}
		run("linux/amd64", "linux/arm64")
		stop()
		h.newService(t)
		stop = h.start(t)
		run("windows/amd64")
		if tags := h.tags("local/app"); tags[signature] == "" {
			t.Errorf("an image is here without its signature: %v", tags)
		}
		run()

		// Another rule, without platforms, completes the index.
		run("linux/arm64")
		h.update(func(tx *metadb.Tx) error {
			if err := tx.DeleteMirrorRule("r"); err != nil {
				return err
			}
			return mirror.Forget(tx, "r")
		})
		run()
		stop()
	})
}

func TestUnchangedTagNeedsNoManifestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		for _, tag := range []string{"1", "2", "3"} {
			h.upstream.image("app", tag, 10, tag)
		}
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		h.upstream.requestCount("GET manifests")
		h.upstream.requestCount("HEAD manifests")
		h.runRule()
		gets, heads := h.upstream.requestCount("GET manifests"), h.upstream.requestCount("HEAD manifests")
		if gets != 0 || heads != 3 {
			t.Errorf("%d GET and %d HEAD requests for manifests, want 0 and 3", gets, heads)
		}
	})
}

func TestSignaturesComeWithFilteredTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		child := u.image("app", "amd64", 10)
		index := u.index("app", []digest.Digest{child}, "2.1")
		other := u.image("app", "other", 10, "3.0")
		signature := func(of digest.Digest) string { return strings.Replace(string(of), ":", "-", 1) + ".sig" }
		signed := u.image("app", "signature of the child", 10, signature(child))
		u.image("app", "signature of another", 10, signature(other))
		sbom := u.referrer("app", "sbom", index)
		h.rule(mirror.Spec{TagFilters: []string{">=2 <3"}})
		if row := h.awaitRun(time.Time{}); row.Error != "" {
			t.Error(row.Error)
		}
		want := map[string]digest.Digest{"2.1": index, signature(child): signed}
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
		if !h.has("local/app", child) || !h.has("local/app", sbom) {
			t.Error("a child or a referrer is missing")
		}
		h.runRule()
		if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
			t.Errorf("after another run: %s", diff)
		}
		h.rule(mirror.Spec{TagFilters: []string{"3.*"}})
		h.runRule()
		if tags := h.tags("local/app"); len(tags) != 2 || tags["3.0"] != other {
			t.Errorf("with another filter there is %v", tags)
		}
	})
}

func TestRunResumesInTheNextWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 12 << 20
		h := newInstance(t)
		d := h.upstream.image("app", "large", size, "1")
		h.upstream.set(func() { h.upstream.rate = 500 }) // bytes a second for each connection: 2 hours in total
		h.rule(mirror.Spec{Schedule: "0 6 * * *", Window: "PT1H"})
		midnight := time.Now().UTC().Truncate(24 * time.Hour)
		time.Sleep(time.Until(midnight.Add(6*time.Hour + 30*time.Minute)))
		if s := h.Status("r"); !s.Running {
			t.Fatal("no run in the window")
		}
		time.Sleep(time.Hour)
		if h.Status("r").Running || len(h.tags("local/app")) != 0 {
			t.Fatal("a run continued after the window, or was done before")
		}
		h.update(runError(t, func(why string) {
			if !strings.Contains(why, "window closed") {
				t.Errorf("the rule's error is %q", why)
			}
		}))
		time.Sleep(22 * time.Hour) // to 5:30
		if h.Status("r").Running {
			t.Error("a run outside the window")
		}
		time.Sleep(90 * time.Minute)
		h.upstream.set(func() { h.upstream.rate = 0 })
		time.Sleep(24 * time.Hour)
		if got := h.tags("local/app"); got["1"] != d {
			t.Fatalf("there is %v", got)
		}
		var sent int
		h.upstream.set(func() { sent = h.upstream.sent })
		if sent > size+3<<20 {
			t.Errorf("%d bytes were sent of a layer of %d", sent, size)
		}
	})
}

func TestSourceRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.image("app", "one", 10, "1")
		var last time.Time
		early, refused := 0, 0
		h.upstream.before = func(w http.ResponseWriter, r *http.Request) bool {
			h.upstream.mu.Lock()
			defer h.upstream.mu.Unlock()
			if since := time.Since(last); !last.IsZero() && since < time.Minute {
				early++
			}
			if last = (time.Time{}); refused == 6 {
				return false
			}
			refused++
			last = time.Now()
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		h.rule(mirror.Spec{})
		if row := h.awaitRun(time.Time{}); row.Error != "" || len(h.tags("local/app")) != 1 {
			t.Errorf("the run ended with %q", row.Error)
		}
		if early > 0 {
			t.Errorf("%d requests came before the end of the pause", early)
		}
	})
}

func TestImageWithMissingBlobFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		good := h.upstream.image("app", "good", 10, "good")
		h.upstream.image("app", "bad", 10, "bad")
		h.upstream.before = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, string(digest.FromString("config bad"))) {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			return false
		}
		h.rule(mirror.Spec{})
		if row := h.awaitRun(time.Time{}); row.Error == "" || !row.SucceededAt.IsZero() {
			t.Errorf("the run ended as %+v", row)
		}
		if diff := cmp.Diff(map[string]digest.Digest{"good": good}, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestInterruptedRunResumesAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		h := newStoppedInstance(t)
		stop := h.start(t)
		d := h.upstream.image("app", "large", size, "1")
		h.upstream.set(func() { h.upstream.rate = 10 << 10 })
		h.rule(mirror.Spec{})
		time.Sleep(time.Minute)
		if !h.Status("r").Running {
			t.Fatal("no run")
		}
		stop()
		h.newService(t)
		h.start(t)
		time.Sleep(10 * time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the image is not here")
		}
		var sent int
		h.upstream.set(func() { sent = h.upstream.sent })
		if sent > size+1<<20 {
			t.Errorf("%d bytes were sent of a layer of %d", sent, size)
		}
	})
}

func TestDeletedRuleStopsAndItsImagesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "small", 10, "1")
		h.upstream.image("app", "large", 4<<20, "2")
		h.upstream.set(func() { h.upstream.rate = 1 << 10 })
		h.rule(mirror.Spec{})
		time.Sleep(time.Minute)
		if h.tags("local/app")["1"] != d || !h.Status("r").Running {
			t.Fatal("the smallest image is not fetched first")
		}
		h.update(deleteRule)
		h.Changed("r")
		time.Sleep(time.Minute)
		if h.Status("r").Running || h.tags("local/app")["1"] != d {
			t.Error("the run did not end, or the image was removed")
		}
		h.update(noItems(t))
	})
}

// A tag names an image of Docker's schema 1, which Ferry does not support.
func TestTagOfUnknownFormatBlocksNoRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		old := u.image("app", "old", 100, "legacy")
		u.image("app", "one", 100, "v1")
		u.image("app", "two", 100, "v2")
		h.rule(mirror.Spec{})
		if row := h.runRule(); row.Error != "" {
			t.Fatal(row.Error)
		}
		legacy := []byte(`{"schemaVersion":1,"name":"app","tag":"legacy","signatures":[]}`)
		u.set(func() {
			u.before = func(w http.ResponseWriter, r *http.Request) bool {
				for _, reference := range []string{"legacy", digest.FromBytes(legacy).String()} {
					if strings.HasSuffix(r.URL.Path, "/manifests/"+reference) {
						w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
						w.Header().Set("Docker-Content-Digest", digest.FromBytes(legacy).String())
						w.Write(legacy)
						return true
					}
				}
				return false
			}
		})
		if err := u.DeleteTag(t.Context(), "app", "v1"); err != nil {
			t.Fatal(err)
		}
		if row := h.runRule(); row.Error == "" {
			t.Error("the run ended without an error")
		}
		tags := h.tags("local/app")
		if _, has := tags["v1"]; has || tags["legacy"] != old || len(tags) != 2 {
			t.Errorf("the tags are %v; want v2, and legacy as it was", tags)
		}
	})
}
