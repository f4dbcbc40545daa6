package doctor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// statuses returns the status of each check by its name.
func statuses(results []Result) map[string]Status {
	all := map[string]Status{}
	for _, r := range results {
		all[r.Check] = r.Status
	}
	return all
}

func TestChecksAfterAFailureAreSkipped(t *testing.T) {
	is := func(f Finding) func(context.Context) Finding { return func(context.Context) Finding { return f } }
	got := runChecks(t.Context(), []check{
		{name: "a", within: time.Minute, run: is(ok("fine"))},
		{name: "b", needs: []string{"a"}, within: time.Minute, run: is(fail("bad").hint("repair it"))},
		{name: "c", needs: []string{"b"}, within: time.Minute, run: is(ok("never"))},
		{name: "d", needs: []string{"c"}, within: time.Minute, run: is(ok("never"))},
		{name: "e", needs: []string{"a"}, after: []string{"b"}, within: time.Minute, run: is(warn("soon"))},
		{name: "f", needs: []string{"e"}, within: time.Minute, run: is(ok("fine"))},
	})
	want := []Result{
		{Check: "a", Finding: Finding{Status: OK, Text: "fine"}},
		{Check: "b", Finding: Finding{Status: Fail, Text: "bad", Remedy: "repair it"}},
		{Check: "c", Finding: Finding{Status: Skipped, Text: "not checked, because b failed"}},
		{Check: "d", Finding: Finding{Status: Skipped, Text: "not checked, because c was not checked"}},
		{Check: "e", Finding: Finding{Status: Warn, Text: "soon"}},
		{Check: "f", Finding: Finding{Status: OK, Text: "fine"}},
	}
	for i := range got {
		got[i].Milliseconds = 0
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestHangingCheckFailsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		end := make(chan struct{})
		defer close(end)
		hang := func(context.Context) Finding { <-end; return ok("it ended") }
		got := runChecks(t.Context(), []check{
			{name: "disk", within: 5 * time.Second, run: hang},
			{name: "link", within: 9 * time.Second, run: hang}, // at the same time as the other
		})
		want := map[string]Status{"disk": Fail, "link": Fail}
		if diff := cmp.Diff(want, statuses(got)); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(start); took != 9*time.Second+overtime {
			t.Errorf("the checks took %s", took)
		}
	})
}
