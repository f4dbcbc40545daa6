package mirror_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
	"ferry/internal/oci"
	"ferry/internal/remote"
)

// noAnswers are the ways in which the upstream gives no whole answer.
var noAnswers = map[string]http.HandlerFunc{
	"closes": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"hangs":  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"breaks off": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "{")
		panic(http.ErrAbortHandler)
	},
}

func signatureTag(d digest.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".sig" }

func TestUnansweredOptionalRequestStopsNoTag(t *testing.T) {
	for _, kind := range []string{"the referrers' endpoint", "the referrers' tag", "a signature's tag", "a referrer",
		"a foreign layer", "a referrer's blob", "a signature's blob"} {
		for how, fail := range noAnswers {
			t.Run(kind+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newInstance(t)
					u := h.upstream
					old := u.image("app", "old", 10, "old")
					signature, oldSignature := u.referrer("app", "old sbom", old),
						u.image("app", "old signature", 10, signatureTag(old))
					h.rule(mirror.Spec{TagFilters: []string{"*", "!sha256-*"}})
					if row := h.awaitRun(time.Time{}); row.Error != "" || !h.has("local/app", signature) {
						t.Fatalf("%q", row.Error)
					}
					want := map[string]digest.Digest{"old": old, signatureTag(old): oldSignature}
					parts := []string{remote.ReferrersTag(old)}
					for i := range 5 {
						tag := fmt.Sprint("v", i)
						m := u.manifest("app", tag, 10)
						layer := oci.Descriptor{MediaType: "x/layer", Size: 7}
						layer.Digest = digest.FromString("foreign" + tag)
						layer.URLs = []string{"https://example.com/x"}
						m.Layers = append(m.Layers, layer)
						d := u.Push("app", m, tag).Digest
						want[tag] = d
						switch kind {
						case "the referrers' tag":
							parts = append(parts, "/manifests/"+remote.ReferrersTag(d))
						case "a signature's tag":
							u.image("app", "signature"+tag, 10, signatureTag(d))
							parts = append(parts, "/manifests/"+signatureTag(d))
						case "a referrer":
							parts = append(parts, string(u.referrer("app", "sbom"+tag, d)))
						case "a foreign layer":
							parts = append(parts, string(layer.Digest))
						case "a referrer's blob":
							u.referrer("app", "sbom"+tag, d)
							parts = append(parts, string(digest.FromString("config sbom"+tag)))
						case "a signature's blob":
							u.image("app", "signature"+tag, 10, signatureTag(d))
							parts = append(parts, string(digest.FromString("config signature"+tag)))
						default:
							parts = append(parts, "/referrers/")
						}
					}
					u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
						if kind == "the referrers' tag" && strings.Contains(r.URL.Path, "/referrers/") {
							w.WriteHeader(http.StatusNotFound)
							return true
						}
						for _, part := range parts {
							if strings.Contains(r.URL.Path, part) {
								fail(w, r)
								return true
							}
						}
						return false
					})
					row := h.runRule()
					if took := row.EndedAt.Sub(row.StartedAt); row.Error != "" || took > 10*time.Minute {
						t.Errorf("after %s the run ended with %q", took, row.Error)
					}
					if diff := cmp.Diff(want, h.tags("local/app")); diff != "" {
						t.Error(diff)
					}
					if !h.has("local/app", signature) {
						t.Error("a signature was removed because the source did not answer")
					}
					unavailable := []mirror.WarningCode{mirror.ReferrersUnavailable}
					if kind != "a foreign layer" && !cmp.Equal(warningCodes(row), unavailable) {
						t.Errorf("the warnings are %v", mirror.WarningsOf(row))
					}
					i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:v1"})
					if took := i.EndedAt.Sub(i.StartedAt); i.State != mirror.ImportSucceeded || took > 5*time.Minute {
						t.Errorf("after %s: %+v", took, i)
					}
				})
			})
		}
	}
}

// The outage begins with the first request for referrers.
func TestOutageIsNotTakenForMissingReferrers(t *testing.T) {
	for how, fail := range noAnswers {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				u := h.upstream
				d := u.image("app", "one", 10, "1")
				signature := u.referrer("app", "signature", d)
				var until time.Time
				u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					down := false
					u.set(func() {
						if until.IsZero() && strings.Contains(r.URL.Path, "/referrers/") {
							until = time.Now().Add(7 * time.Minute)
						}
						down = time.Now().Before(until)
					})
					if down {
						fail(w, r)
					}
					return down
				})
				h.rule(mirror.Spec{})
				time.Sleep(time.Hour)
				row := h.runRule()
				if row.Error != "" || len(warningCodes(row)) > 0 || !h.has("local/app", signature) {
					t.Errorf("%q, %v", row.Error, mirror.WarningsOf(row))
				}
			})
		})
	}
}

func TestFailingReferrerBlobDoesNotDelayAnImport(t *testing.T) {
	fails := map[string]http.HandlerFunc{
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"short": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "c")
		},
		"nothing": func(http.ResponseWriter, *http.Request) {},
	}
	for how, fail := range noAnswers {
		fails[how] = fail
	}
	for how, fail := range fails {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				u := h.upstream
				d := u.image("app", "one", 10, "1")
				u.referrer("app", "bad", d)
				u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					bad := strings.HasSuffix(r.URL.Path, "/blobs/"+string(digest.FromString("config bad")))
					if bad {
						fail(w, r)
					}
					return bad
				})
				i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
				if took := i.EndedAt.Sub(i.StartedAt); i.State != mirror.ImportSucceeded || len(i.Warnings) != 1 ||
					h.tags("app")["1"] != d || took > 100*time.Second {
					t.Errorf("after %s: %+v", took, i)
				}
			})
		})
	}
}

// The referrer has the same config and layer as the image.
func TestBlobSharedWithAReferrerIsNotOptional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		d := u.image("app", "one", 10, "1")
		referrer := u.referrer("app", "one", d)
		u.respond(http.StatusInternalServerError, "/blobs/"+string(digest.FromString("config one")),
			time.Now().Add(45*time.Second))
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
		if i.State != mirror.ImportSucceeded || len(i.Warnings) > 0 || h.tags("app")["1"] != d ||
			!h.has("app", referrer) {
			t.Errorf("%+v", i)
		}
	})
}

func TestHangingReferrersDelayALargeIndexForMinutesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		var children []digest.Digest
		for i := range 20 {
			children = append(children, u.image("app", fmt.Sprint("platform ", i), 10))
		}
		d := u.index("app", children, "1")
		u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			hangs := strings.Contains(r.URL.Path, "/referrers/")
			if hangs {
				noAnswers["hangs"](w, r)
			}
			return hangs
		})
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
		if took := i.EndedAt.Sub(i.StartedAt); i.State != mirror.ImportSucceeded || h.tags("app")["1"] != d ||
			took > 4*time.Minute || u.requestCount("GET referrers") > 6 {
			t.Errorf("after %s: %+v", took, i)
		}
	})
}
