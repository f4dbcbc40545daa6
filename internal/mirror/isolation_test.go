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

	"ferry/internal/metadb"
	"ferry/internal/mirror"
)

// intercept passes each request to answer first. If that returns false, the upstream
// answers.
func (u *upstream) intercept(answer func(w http.ResponseWriter, r *http.Request) (done bool)) {
	u.set(func() { u.before = answer })
}

// warningCodes returns the codes of the rule's warnings.
func warningCodes(row metadb.MirrorRule) (codes []mirror.WarningCode) {
	for _, w := range mirror.WarningsOf(row) {
		codes = append(codes, w.Code)
	}
	return codes
}

func TestUnusableReferrersAnswerStopsNothing(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"400":            {400, ""},
		"401":            {401, ""},
		"403":            {403, ""},
		"404":            {404, ""},
		"406":            {406, ""},
		"500":            {500, ""},
		"501":            {501, ""},
		"502":            {502, "<html>"},
		"HTML":           {200, "<!DOCTYPE html><html></html>"},
		"nothing":        {204, ""},
		"another object": {200, `{"errors":[]}`},
	} {
		for _, where := range []string{"the endpoint", "the tag, too"} {
			t.Run(name+" at "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newInstance(t)
					u := h.upstream
					old := u.image("app", "old", 10, "1")
					signature := u.referrer("app", "signature", old)
					h.rule(mirror.Spec{})
					h.awaitRun(time.Time{})
					u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
						unusable := strings.Contains(r.URL.Path, "/referrers/") ||
							where != "the endpoint" && strings.Contains(r.URL.Path, "/manifests/sha256-")
						if unusable {
							w.WriteHeader(answer.status)
							fmt.Fprint(w, answer.body)
						}
						return unusable
					})
					newer := u.image("app", "newer", 10, "2")
					row := h.runRule()
					if row.Error != "" {
						t.Error(row.Error)
					}
					if diff := cmp.Diff(map[string]digest.Digest{"1": old, "2": newer},
						h.tags("local/app")); diff != "" {
						t.Error(diff)
					}
					if !h.has("local/app", signature) {
						t.Error("a signature was removed because the source did not list it")
					}
					plain := answer.status == 404 || answer.status == 400 || answer.status == 501
					if codes := warningCodes(row); plain && where == "the endpoint" && len(codes) > 0 ||
						!plain && !cmp.Equal(codes, []mirror.WarningCode{mirror.ReferrersUnavailable}) {
						t.Errorf("the warnings are %v", mirror.WarningsOf(row))
					}
					i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:2"})
					if i.State != mirror.ImportSucceeded || plain != (len(i.Warnings) == 0) &&
						where == "the endpoint" {
						t.Errorf("%+v", i)
					}
					u.intercept(nil)
					if row := h.runRule(); row.Error != "" || len(warningCodes(row)) > 0 {
						t.Errorf("%q, %v after the source recovered", row.Error, warningCodes(row))
					}
				})
			})
		}
	}
}

func TestUnusableReferrersAnswerAffectsOneImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		unusable, good := u.image("app", "unusable", 10, "1"), u.image("app", "good", 10, "2")
		lost := u.referrer("app", "signature of the failing one", unusable)
		signature := u.referrer("app", "signature", good)
		u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			refused := strings.HasSuffix(r.URL.Path, "/referrers/"+string(unusable))
			if refused {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return refused
		})
		h.rule(mirror.Spec{})
		if row := h.runRule(); row.Error != "" || len(warningCodes(row)) != 1 {
			t.Errorf("%q, %v", row.Error, warningCodes(row))
		}
		if !h.has("local/app", signature) || h.has("local/app", lost) || len(h.tags("local/app")) != 2 {
			t.Error("the other image's signature is missing")
		}
	})
}

func TestBrokenReferrersEndpointIsNotAskedPerImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		for i := range 50 {
			h.upstream.image("app", fmt.Sprint(i), 10, fmt.Sprint("v", i))
		}
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		h.upstream.respond(http.StatusNotAcceptable, "/referrers/", time.Now().Add(time.Hour))
		h.upstream.requestCount("GET referrers")
		h.runRule()
		if n := h.upstream.requestCount("GET referrers"); n < 1 || n > 20 {
			t.Errorf("it was asked %d times", n)
		}
	})
}

func TestFailingTagDoesNotStopTheOthers(t *testing.T) {
	for _, status := range []int{403, 500} {
		for kind, path := range map[string]func(bad digest.Digest) string{
			"the tag":      func(digest.Digest) string { return "/manifests/bad" },
			"its manifest": func(bad digest.Digest) string { return "/manifests/" + string(bad) },
		} {
			t.Run(fmt.Sprint(status, " for ", kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newInstance(t)
					u := h.upstream
					was, gone := u.image("app", "was", 10, "bad"), u.image("app", "gone", 10, "gone")
					signature := u.image("app", "signature", 10, strings.Replace(string(was), ":", "-", 1)+".sig")
					u.image("app", "good", 10, "good")
					h.rule(mirror.Spec{TagFilters: []string{"*"}})
					h.awaitRun(time.Time{})

					bad, good := u.image("app", "bad", 10, "bad"), u.image("app", "better", 10, "good")
					if err := u.DeleteTag(t.Context(), "app", "gone"); err != nil {
						t.Fatal(err)
					}
					u.respond(status, path(bad), time.Now().Add(30*time.Minute))
					began := time.Now()
					row := h.runRule()
					if row.Error == "" || time.Since(began) > 5*time.Minute {
						t.Errorf("after %s the run ended with %q", time.Since(began), row.Error)
					}
					tags := h.tags("local/app")
					if tags["bad"] != was || tags["good"] != good || !h.has("local/app", signature) {
						t.Errorf("there is %v", tags)
					}
					if kind == "the tag" &&
						(tags["gone"] == gone ||
							!strings.Contains(row.Error, "1 tags of the source could not be resolved: resolve bad")) {
						t.Errorf("there is %v, and the run ended with %q", tags, row.Error)
					}
					if temporary := status >= 500; row.RetrySince.IsZero() == temporary {
						t.Errorf("the run is retried: %v", !temporary)
					}
					time.Sleep(2 * time.Hour)
					h.runRule()
					if got := h.tags("local/app")["bad"]; got != bad {
						t.Errorf("it is missing after the recovery: %s", got)
					}
				})
			})
		}
	}
}

func TestSourceRefusingEveryTagIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		for i := range 30 {
			h.upstream.image("app", fmt.Sprint(i), 10, fmt.Sprint("v", i))
		}
		h.upstream.respond(http.StatusBadGateway, "/manifests/", time.Now().Add(5*time.Minute))
		h.rule(mirror.Spec{})
		if row := h.awaitRun(time.Time{}); row.Error != "" || len(h.tags("local/app")) != 30 {
			t.Errorf("the run ended with %q", row.Error)
		}
		h.upstream.respond(http.StatusForbidden, "/manifests/", time.Now().Add(5*time.Minute))
		if row := h.runRule(); !strings.Contains(row.Error, "resolve v0: ") ||
			!strings.Contains(row.Error, "--username") {
			t.Errorf("the run ended with %q", row.Error)
		}
		if n := len(h.tags("local/app")); n != 30 {
			t.Errorf("there are %d tags", n)
		}
	})
}

func TestInvalidTagNameDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "v1")
		h.upstream.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			lists := strings.HasSuffix(r.URL.Path, "/tags/list")
			if lists {
				fmt.Fprint(w, `{"tags":["a\u0001b","v1","../v2"]}`)
			}
			return lists
		})
		h.rule(mirror.Spec{})
		row := h.awaitRun(time.Time{})
		if row.Error != "" || !cmp.Equal(warningCodes(row), []mirror.WarningCode{mirror.InvalidTags}) {
			t.Errorf("%q, %v", row.Error, mirror.WarningsOf(row))
		}
		if diff := cmp.Diff(map[string]digest.Digest{"v1": d}, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFailingManifestsDoNotDelayTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		u.image("app", "good", 10, "good")
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		bad := map[string]bool{}
		for i := range 20 {
			bad[string(u.image("app", fmt.Sprint("bad", i), 10, fmt.Sprint("bad", i)))] = true
		}
		u.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			fails := r.Method == http.MethodGet && bad[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]] &&
				strings.Contains(r.URL.Path, "/manifests/")
			if fails {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return fails
		})
		row := h.runRule()
		if took := row.EndedAt.Sub(row.StartedAt); took > 3*time.Minute ||
			row.Error != "some tags failed; see failures" {
			t.Errorf("after %s the run ended with %q", took, row.Error)
		}
		if row.RetrySince.IsZero() {
			t.Error("the run is not retried")
		}
	})
}

func TestFailingReferrerDoesNotStopItsImage(t *testing.T) {
	for _, status := range []int{403, 404, 500} {
		for _, kind := range []string{"/manifests/", "/blobs/"} {
			t.Run(fmt.Sprint(status, kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newInstance(t)
					u := h.upstream
					d := u.image("app", "one", 10, "1")
					bad, good := u.referrer("app", "bad", d), u.referrer("app", "good", d)
					path := kind + string(bad)
					if kind == "/blobs/" {
						path = kind + string(digest.FromString("config bad"))
					}
					u.respond(status, path, time.Now().Add(1000*time.Hour))
					u.image("app", "two", 10, "2")
					h.rule(mirror.Spec{})
					row := h.awaitRun(time.Time{})
					if h.tags("local/app")["1"] != d || !h.has("local/app", good) || h.has("local/app", bad) {
						t.Errorf("there is %v: %s", h.tags("local/app"), row.Error)
					}
					sum, err := h.Summary(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if state := mirror.RuleStateOf(row, false); row.Error != "" || state != mirror.InSync ||
						sum.OutOfSync != 0 || sum.ItemsFailed != 1 ||
						!cmp.Equal(warningCodes(row), []mirror.WarningCode{mirror.ReferrersUnavailable}) {
						t.Errorf("the run ended with %q, %s, %+v, %+v", row.Error, state, sum, mirror.WarningsOf(row))
					}
					i := h.runImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
					if h.tags("app")["1"] != d || !h.has("app", good) ||
						i.State != mirror.ImportSucceeded || len(i.Warnings) != 1 {
						t.Errorf("%+v", i)
					}
					if err := u.DeleteTag(t.Context(), "app", "2"); err != nil {
						t.Fatal(err)
					}
					if row := h.runRule(); row.Error != "" || h.tags("local/app")["2"] != "" {
						t.Errorf("a tag that left the source stays: %q, %v", row.Error, h.tags("local/app"))
					}
				})
			})
		}
	}
}
