package mirror_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/mirror"
	"ferry/internal/oci"
	"ferry/internal/storage/storagetest"
)

// runImport begins an import and waits until it has ended.
func (h *instance) runImport(t *testing.T, q mirror.ImportRequest) mirror.Import {
	t.Helper()
	return h.awaitImport(t, h.beginImport(t, q))
}

func (h *instance) beginImport(t *testing.T, q mirror.ImportRequest) mirror.Import {
	t.Helper()
	i, err := h.Import(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// importOf returns the state of an import.
func (h *instance) importOf(t *testing.T, id string) mirror.Import {
	t.Helper()
	i, err := h.ImportOf(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// imports returns all imports.
func (h *instance) imports(t *testing.T) []mirror.Import {
	t.Helper()
	all, err := h.Imports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// awaitImport waits until the import has ended.
func (h *instance) awaitImport(t *testing.T, i mirror.Import) mirror.Import {
	t.Helper()
	for i.EndedAt.IsZero() {
		time.Sleep(time.Second)
		i = h.importOf(t, i.ID)
	}
	return i
}

func TestImportCopiesAnImageToEveryDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 300<<10, "1.0")
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1.0",
			Images: []string{"a:x", "b/c"}, Repository: "plain"})
		if i.State != mirror.ImportSucceeded || i.Digest != d {
			t.Fatalf("%+v", i)
		}
		for repository, tag := range map[string]string{"a": "x", "b/c": "1.0"} {
			if diff := cmp.Diff(map[string]digest.Digest{tag: d}, h.tags(repository)); diff != "" {
				t.Error(diff)
			}
		}
		if !h.has("plain", d) || len(h.tags("plain")) != 0 {
			t.Error("the copy without a tag is missing, or has a tag")
		}
		i = h.runImport(t,
			mirror.ImportRequest{Source: "http://upstream.example/app@" + string(d), Images: []string{"app:x"}})
		if i.State != mirror.ImportSucceeded || h.tags("app")["x"] != d {
			t.Errorf("%+v", i)
		}
	})
}

func TestImportByTagAndDigestKeepsTheTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1.0")
		h.upstream.image("app", "two", 10, "1.0") // the tag moves
		for _, images := range [][]string{nil, {"copy"}} {
			i := h.runImport(t,
				mirror.ImportRequest{Source: "http://upstream.example/app:1.0@" + string(d), Images: images})
			if i.State != mirror.ImportSucceeded {
				t.Fatalf("%+v", i)
			}
		}
		for _, repository := range []string{"app", "copy"} {
			if diff := cmp.Diff(map[string]digest.Digest{"1.0": d}, h.tags(repository)); diff != "" {
				t.Errorf("%s: %s", repository, diff)
			}
		}
	})
}

func TestImportMovesATagOnlyWithForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		was := h.image("app", "own", 10, "1")
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1"}
		synctest.Wait()
		if _, err := h.Import(t.Context(), q); !errors.Is(err, mirror.ErrExists) {
			t.Errorf("Import = %v", err)
		}
		if h.tags("app")["1"] != was {
			t.Error("the tag was moved")
		}
		q.Force = true
		if i := h.runImport(t, q); i.State != mirror.ImportSucceeded || h.tags("app")["1"] != d {
			t.Errorf("%+v", i)
		}
	})
}

func TestTagCreatedDuringAnImportIsNotMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		var own digest.Digest
		h.upstream.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if own == "" && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
				own = h.image("app", "own", 10, "1")
			}
			return false
		}
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1", Images: []string{"app:1", "app:2"}}
		i := h.runImport(t, q)
		if want := "app:1: " + mirror.ErrExists.Error(); i.State != mirror.ImportFailed || i.Problem != want ||
			i.Hint != "--force moves it" {
			t.Errorf("%+v, want %q", i, want)
		}
		if diff := cmp.Diff(map[string]digest.Digest{"1": own, "2": d}, h.tags("app")); diff != "" {
			t.Error(diff)
		}
		q.Force = true
		if i := h.runImport(t, q); i.State != mirror.ImportSucceeded || h.tags("app")["1"] != d {
			t.Errorf("%+v", i)
		}
	})
}

func TestImportWithReferrersFailsWithItsTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.referrer("app", "SBOM", h.upstream.image("app", "one", 10, "v1"))
		taken := false
		h.upstream.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if !taken && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
				taken = true
				h.image("app", "own", 10, "v1")
			}
			return false
		}
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:v1"})
		if want := "app:v1: " + mirror.ErrExists.Error(); i.State != mirror.ImportFailed || i.Problem != want {
			t.Errorf("%+v, want %q", i, want)
		}
	})
}

func TestImportsAreListedLatestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.image("app", "one", 1<<20, "1", "2")
		h.upstream.rate = 128 << 10
		var want []string
		for _, tag := range []string{"1", "2"} {
			i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:" + tag})
			want = append([]string{i.ID}, want...)
			if i.BytesPerSecond != 0 {
				t.Errorf("it has ended and still has a rate: %+v", i)
			}
		}
		var got []string
		for _, i := range h.imports(t) {
			got = append(got, i.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		h.upstream.image("app", "two", 1<<20, "3")
		if _, err := h.Import(t.Context(), mirror.ImportRequest{Source: "http://upstream.example/app:3"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if i := h.imports(t)[0]; i.BytesPerSecond < 128<<10 || i.BytesPerSecond > 1<<20 || i.Progress.BytesDone == 0 {
			t.Errorf("on its way: %+v", i)
		}
		h.awaitImport(t, h.imports(t)[0])
	})
}

func TestConcurrentImportMustHaveTheSameSettings(t *testing.T) {
	authority := asPEM(selfSigned(t))
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.image("app", "one", 10, "1")
		held := make(chan struct{})
		h.upstream.before = func(http.ResponseWriter, *http.Request) bool { <-held; return false }
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1", Username: "bot", Password: "one"}
		synctest.Wait()
		first, err := h.Import(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := h.Import(t.Context(), q); err != nil || again.ID != first.ID {
			t.Errorf("the same request again: %+v, %v", again, err)
		}
		for setting, change := range map[string]func(*mirror.ImportRequest){
			"user":      func(q *mirror.ImportRequest) { q.Username = "other" },
			"password":  func(q *mirror.ImportRequest) { q.Password = "two" },
			"force":     func(q *mirror.ImportRequest) { q.Force = true },
			"authority": func(q *mirror.ImportRequest) { q.CA = authority },
		} {
			other := q
			change(&other)
			if _, err := h.Import(t.Context(), other); !errors.Is(err, mirror.ErrDiffers) ||
				!strings.Contains(err.Error(), first.ID) {
				t.Errorf("with another %s: %v", setting, err)
			}
		}
		close(held)
		if i := h.awaitImport(t, first); i.State != mirror.ImportSucceeded {
			t.Errorf("%+v", i)
		}
	})
}

func TestFailedImportSaysWhyAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 2 << 20
		h := newInstance(t)
		h.upstream.image("app", "large", size, "1")
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1"}
		// Once the first half of the layer has been sent, the second half is deleted.
		h.upstream.before = func(w http.ResponseWriter, r *http.Request) bool {
			start := 0
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start)
			if start < size/2 {
				return false
			}
			for sent := 0; sent < size/2; h.upstream.set(func() { sent = h.upstream.sent }) {
				time.Sleep(time.Millisecond)
			}
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		if i := h.runImport(t, q); i.State != mirror.ImportFailed || !strings.Contains(i.Problem, "BLOB_UNKNOWN") {
			t.Errorf("%+v", i)
		}
		h.upstream.set(func() { h.upstream.before = nil })
		if i := h.runImport(t, q); i.State != mirror.ImportSucceeded {
			t.Errorf("%+v", i)
		}
		if h.upstream.sent > size+size/4 {
			t.Errorf("%d bytes were sent of a layer of %d", h.upstream.sent, size)
		}
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:2"})
		if !strings.Contains(i.Problem, "upstream.example/app has no 2") {
			t.Errorf("%+v", i)
		}
	})
}

func TestImportFromUnreachableSourceFailsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.pipe.Close()
		began := time.Now()
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
		if i.State != mirror.ImportFailed || i.Problem == "" ||
			!strings.Contains(i.Hint, "resumes from the same byte") || time.Since(began) > time.Minute {
			t.Errorf("after %s: %+v", time.Since(began), i)
		}
	})
}

func TestInvalidImportRequestIsRefused(t *testing.T) {
	h := newInstance(t)
	for _, q := range []mirror.ImportRequest{
		{Source: "alpine"},
		{Source: "ftp://upstream.example/app"},
		{Source: "upstream.example/app@" + digest.FromString("no tag").String()},
		{Source: "upstream.example/app:1", Images: []string{"A:1"}},
		{Source: "upstream.example/app:1", Images: []string{"a:-"}},
		{Source: "upstream.example/app:1", Repository: "../a"},
		{Source: "upstream.example/app:1", CA: "no certificate"},
		{Source: "upstream.example/app:1", Images: make([]string, 51)},
	} {
		if _, err := h.Import(t.Context(), q); !errors.As(err, new(mirror.RequestError)) {
			t.Errorf("Import(%+v) = %v", q, err)
		}
	}
}

// The index is already here: a rule has fetched it without one platform.
func TestImportOfPartialIndexFailsWithMissingChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		bad := u.image("app", "arm", 10)
		index := storagetest.Index()
		for arch, d := range map[string]digest.Digest{"amd64": u.image("app", "amd", 10), "arm64": bad} {
			index.Manifests = append(index.Manifests, oci.Descriptor{
				MediaType: oci.MediaTypeImageManifest, Digest: d, Size: 1,
				Platform: &v1.Platform{OS: "linux", Architecture: arch},
			})
		}
		u.Push("app", index, "1")
		h.rule(mirror.Spec{Repository: "app", Platforms: []string{"linux/amd64"}})
		h.awaitRun(time.Time{})
		u.respond(http.StatusForbidden, "/blobs/"+string(digest.FromString("config arm")), time.Now().Add(time.Hour))
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1", Force: true})
		if i.State != mirror.ImportFailed || h.tags("app")["1"] == "" || h.has("app", bad) {
			t.Errorf("%+v, there is %v", i, h.tags("app"))
		}
	})
}
