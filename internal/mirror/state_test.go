package mirror_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/mirror"
)

func TestSummaryCountsRulesThatAreOutOfSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		expect := func(when string, rules, outOfStep int) {
			t.Helper()
			sum, err := h.Summary(t.Context())
			if err != nil || sum.Rules != rules || sum.OutOfSync != outOfStep {
				t.Errorf("%s: %+v, %v", when, sum, err)
			}
		}
		expect("without a rule", 0, 0)
		h.upstream.image("app", "one", 200<<10, "1")
		h.upstream.set(func() { h.upstream.rate = 10 << 10 })
		h.rule(mirror.Spec{})
		time.Sleep(time.Second)
		expect("in the first run", 1, 1)
		h.awaitRun(time.Time{})
		expect("after it", 1, 0)

		// A later run finds a change.
		h.upstream.set(func() {
			h.upstream.before = func(http.ResponseWriter, *http.Request) bool {
				time.Sleep(time.Minute)
				return false
			}
		})
		h.rule(mirror.Spec{})
		time.Sleep(time.Second)
		if !h.Status("r").Running {
			t.Error("no run: the test proves nothing")
		}
		expect("while a run looks around", 1, 0)
		h.upstream.set(func() { h.upstream.before = nil })
		h.awaitRun(time.Now().Add(-time.Second))
		h.upstream.image("app", "two", 200<<10, "2")
		h.rule(mirror.Spec{})
		time.Sleep(time.Second)
		expect("while something comes", 1, 1)
	})
}
