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

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
	"ferry/internal/oci"
	"ferry/internal/remote"
)

// pauseOnce makes the upstream answer one request with 429 and Retry-After. early returns
// how many requests came before the end of the pause; -1 if none was answered so.
func (u *upstream) pauseOnce(path string, pause time.Duration) (early func() int) {
	var until time.Time
	n := 0
	before := u.before
	u.set(func() {
		u.before = func(w http.ResponseWriter, r *http.Request) bool {
			u.mu.Lock()
			defer u.mu.Unlock()
			if path != "" && r.URL.Path != path {
				return before != nil && before(w, r)
			}
			if until.IsZero() {
				until = time.Now().Add(pause)
				w.Header().Set("Retry-After", strconv.Itoa(int(pause.Seconds())))
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			if time.Now().Before(until) {
				n++
			}
			return before != nil && before(w, r)
		}
	})
	return func() int {
		u.mu.Lock()
		defer u.mu.Unlock()
		if until.IsZero() {
			return -1
		}
		return n
	}
}

func TestRetryAfterIsSharedPerHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		early := h.upstream.pauseOnce("", 40*time.Minute)
		h.rule(mirror.Spec{})
		time.Sleep(time.Minute)
		if s := h.Status("r"); s.Running || time.Until(s.NotBefore) < 38*time.Minute {
			t.Errorf("the rule holds its slot for 40 minutes: %+v", s)
		}
		// Neither a requested run nor an import sends a request before the end of the pause.
		h.update(askRule)
		h.Wake()
		i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
		if i.State != mirror.ImportSucceeded {
			t.Errorf("%+v", i)
		}
		time.Sleep(10 * time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the image is missing after the pause")
		}
		if n := early(); n != 0 {
			t.Errorf("%d requests came before the end of the pause", n)
		}
	})
}

func TestRetryAfterIsAtMostAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.upstream.pauseOnce("", 1000*time.Hour)
		h.rule(mirror.Spec{})
		time.Sleep(90 * time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the image did not come within an hour and a half")
		}
	})
}

func TestTokenEndpointRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.upstream.before = (&expiring{left: map[string]int{}, used: map[string]bool{}}).before
		early := h.upstream.pauseOnce("/token/x", 5*time.Minute)
		h.rule(mirror.Spec{})
		time.Sleep(10 * time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the image is missing after the pause")
		}
		if n := early(); n != 0 {
			t.Errorf("%d requests came before the end of the pause", n)
		}
	})
}

// pauseFor makes busy.example answer requests whose path contains part with 429 and
// Retry-After, for the given time from now on.
func (u *upstream) pauseFor(part string, pause time.Duration) {
	until := time.Now().Add(pause)
	u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		held := r.Host == "busy.example" && strings.Contains(r.URL.Path, part) && time.Now().Before(until)
		if held {
			w.Header().Set("Retry-After", strconv.Itoa(int(time.Until(until).Seconds())))
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return held
	})
}

func TestPausedSourceHoldsNoSlot(t *testing.T) {
	for _, pause := range []time.Duration{2 * time.Minute, 9 * time.Minute, time.Hour} {
		for _, part := range []string{"/tags/", "/manifests/", "/blobs/"} {
			t.Run(fmt.Sprint(pause, part), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newInstance(t)
					d := h.upstream.image("app", "one", 100<<10, "1")
					h.upstream.pauseFor(part, pause)
					names := []string{"a", "b", "c", "d", "healthy"}
					for _, name := range names {
						spec := mirror.Spec{Source: "http://busy.example/app", Repository: "rule/" + name,
							Schedule: "0 0 * * *"}
						if name == "healthy" {
							time.Sleep(time.Second) // until the other rules have all slots
							spec.Source = "http://upstream.example/app"
						}
						text, err := json.Marshal(spec)
						if err != nil {
							t.Fatal(err)
						}
						h.update(func(tx *metadb.Tx) error {
							rule := metadb.MirrorRule{Name: name, Spec: text, Repository: spec.Repository,
								CreatedAt: time.Now()}
							if err := tx.PutMirrorRule(rule); err != nil {
								return err
							}
							return tx.RequestMirrorRun(name, time.Now())
						})
						h.Wake()
						synctest.Wait()
					}
					var last mirror.Import
					for _, name := range names {
						q := mirror.ImportRequest{Source: "http://busy.example/app:1",
							Images: []string{"import/" + name + ":1"}}
						if name == "healthy" {
							q.Source = "http://upstream.example/app:1"
						}
						var err error
						if last, err = h.Import(t.Context(), q); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
					}
					time.Sleep(30 * time.Second)
					if h.tags("rule/healthy")["1"] != d {
						t.Error("the rule with another host waits")
					}
					if last = h.awaitImport(t, last); last.State != mirror.ImportSucceeded ||
						last.EndedAt.Sub(last.StartedAt) > time.Minute {
						t.Errorf("the import from another host waited: %+v", last)
					}
					time.Sleep(pause + 30*time.Minute)
					for _, name := range names {
						if h.tags("rule/" + name)["1"] != d || h.tags("import/" + name)["1"] != d {
							t.Errorf("%s is missing after the pause", name)
						}
					}
				})
			})
		}
	}
}

// For an hour, the source answers one kind of request with 429.
func TestOptionalRetryAfterDelaysNoImage(t *testing.T) {
	for name, is := range map[string]func(method, path string, image, referrer digest.Digest) bool{
		"the referrers' endpoint": func(_, path string, _, _ digest.Digest) bool {
			return strings.Contains(path, "/referrers/")
		},
		"the referrers' tag": func(_, path string, image, _ digest.Digest) bool {
			return strings.HasSuffix(path, "/manifests/"+remote.ReferrersTag(image))
		},
		"a signature's tag": func(_, path string, image, _ digest.Digest) bool {
			return strings.HasSuffix(path, "/manifests/"+signatureTag(image))
		},
		"a referrer": func(_, path string, _, referrer digest.Digest) bool {
			return strings.HasSuffix(path, "/manifests/"+string(referrer))
		},
		"a referrer's blob": func(_, path string, _, _ digest.Digest) bool {
			return strings.HasSuffix(path, "/blobs/"+string(digest.FromString("config sbom")))
		},
		"a signature's blob": func(_, path string, _, _ digest.Digest) bool {
			return strings.HasSuffix(path, "/blobs/"+string(digest.FromString("config signature")))
		},
		"a foreign layer": func(method, path string, _, _ digest.Digest) bool {
			return method == http.MethodHead && strings.Contains(path, "/blobs/")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				u := h.upstream
				m := u.manifest("app", "one", 10)
				layer := oci.Descriptor{MediaType: "x/layer", Digest: digest.FromString("foreign"), Size: 7}
				layer.URLs = []string{"https://example.com/x"}
				m.Layers = append(m.Layers, layer)
				d := u.Push("app", m, "v1").Digest
				referrer := u.referrer("app", "sbom", d)
				u.image("app", "signature", 10, signatureTag(d))
				until, first, early := time.Now().Add(time.Hour), time.Time{}, 0
				u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if name == "the referrers' tag" && strings.Contains(r.URL.Path, "/referrers/") {
						w.WriteHeader(http.StatusNotFound)
						return true
					}
					if !is(r.Method, r.URL.Path, d, referrer) || time.Now().After(until) {
						return false
					}
					u.set(func() {
						if first.IsZero() {
							first = time.Now()
						}
						if time.Now().After(first) {
							early++
						}
					})
					w.Header().Set("Retry-After", strconv.Itoa(int(time.Until(until).Seconds())))
					w.WriteHeader(http.StatusTooManyRequests)
					return true
				})
				h.rule(mirror.Spec{TagFilters: []string{"v*"}})
				time.Sleep(time.Minute)
				if h.tags("local/app")["v1"] != d {
					t.Fatalf("the image waits: %+v", h.Status("r"))
				}
				again := u.image("app", "two", 10, "v2")
				h.update(askRule)
				h.Wake()
				if i := h.runImport(t,
					mirror.ImportRequest{Source: "http://upstream.example/app:v1"}); i.State != mirror.ImportSucceeded {
					t.Errorf("%+v", i)
				}
				time.Sleep(5 * time.Minute)
				if h.tags("local/app")["v2"] != again {
					t.Errorf("the next run waits: %+v", h.Status("r"))
				}
				if early != 0 || first.IsZero() {
					t.Errorf("%d requests came before the end of the pause, the first at %s", early, first)
				}
				time.Sleep(2 * time.Hour)
				h.runRule()
				if !strings.HasPrefix(name, "the referrers' tag") && !h.has("local/app", referrer) ||
					h.tags("local/app")[signatureTag(d)] == "" {
					t.Errorf("afterwards something is missing: %v", h.tags("local/app"))
				}
			})
		})
	}
}
