package doctor

import (
	"context"
	"errors"
	"testing"
	"time"

	"ferry/internal/api"
)

// connectedStatus is the status of a connected registry with one problem, or none.
func connectedStatus(code, description string) api.InstanceStatus {
	inSync := api.Verdict{Status: api.InSync, InSync: true, AsOfTime: new(time.Now())}
	s := &api.SyncStatus{Verdict: inSync, ItemsSynced: 3}
	if code != "" {
		s.Status, s.InSync, s.Reason = api.NotInSync, false, new("items are still to be fetched or removed")
		s.Details = []api.StatusDetail{{Code: code, Description: description}}
	}
	return api.InstanceStatus{Role: "connected", Name: "ship1", Version: "v1.2.3", Sync: s,
		Parent: &api.InstanceParent{URL: "https://home.example", Schedule: "* * * * *"}}
}

func TestProblemsOfAnInstanceAreJudged(t *testing.T) {
	root := api.InstanceStatus{Role: "root", Version: "v1.2.3"}
	for _, test := range []struct {
		name       string
		status     api.InstanceStatus
		link, sync Status
		text       string // in one of both findings
	}{
		{"root", root, OK, OK, "no parent"},
		{"in sync", connectedStatus("", ""), OK, OK, "3 items"},
		{"not in sync", connectedStatus("Other", "some"), OK, Warn, "still to be fetched"},
		{"link down", connectedStatus("LinkDown", "no route since noon"), Fail, Warn, "no route since noon"},
		{"refused", connectedStatus("ParentRefuses", "the password is wrong"), Fail, Warn, "the password is wrong"},
		{"parent starts", connectedStatus("ParentNotReady", "it waits"), Warn, Warn, "it waits"},
		{"deactivated", connectedStatus("Deactivated", "an operator did it"), Fail, Warn, "sync now"},
		{"failed", connectedStatus("ItemsFailed", "2 items"), OK, Fail, "2 items"},
		{"damaged", connectedStatus("Damaged", "1 blob"), OK, Fail, "ferry repair"},
		{"full", connectedStatus("DiskError", "no space"), OK, Fail, "make room"},
		{"budget spent", connectedStatus("BudgetSpent", "it is spent"), OK, Warn, "byte-budget"},
	} {
		t.Run(test.name, func(t *testing.T) {
			link, sync := judgeLink(test.status), judgeSync(test.status)
			expect(t, link, test.link)
			expect(t, sync, test.sync)
			expect(t, Finding{Text: link.Text + link.Remedy + sync.Text + sync.Remedy}, "", test.text)
		})
	}
	paused := connectedStatus("", "")
	paused.Sync.Paused = true
	expect(t, judgeSync(paused), Warn, "ferry sync resume")
}

func TestWindowsAreJudged(t *testing.T) {
	now := time.Date(2031, 5, 6, 2, 30, 0, 0, time.UTC)
	for _, test := range []struct {
		name, schedule, window string
		asked                  bool // an operator opened a window
		status                 Status
		text                   string
	}{
		{"continuous", "* * * * *", "", false, OK, "continuously"},
		{"open", "0 2 * * *", "PT1H", false, OK,
			"open until 2031-05-06 03:00 UTC, the next opens at 2031-05-07 02:00 UTC"},
		{"closed", "0 4 * * *", "PT1H", false, OK, "no window is open, the next opens at 2031-05-06 04:00 UTC"},
		{"by request", "0 4 * * *", "PT1H", true, OK, "open by request"},
		{"unreadable", "at noon", "PT1H", false, Fail, "cannot read the sync schedule"},
		{"not activated yet", "", "", false, Skipped, "not activated"},
		{"without a window", "0 4 * * *", "", false, Fail, "cannot read the sync schedule"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := connectedStatus("", "")
			s.Parent.Schedule, s.Parent.SyncWindow = test.schedule, test.window
			if !test.asked {
				s.Sync.NextSyncTime = new(now.Add(time.Hour))
			}
			expect(t, judgeWindows(s, now), test.status, test.text)
		})
	}
}

func TestStoppedInstanceIsNoFailure(t *testing.T) {
	status := func(err error) func(context.Context) (api.InstanceStatus, error) {
		return func(context.Context) (api.InstanceStatus, error) { return connectedStatus("", ""), err }
	}
	dir := t.TempDir()
	check := func(version string, err error) Finding {
		return (&Instance{DataDir: dir, Status: status(err), Version: version}).checkRunning(t.Context())
	}
	expect(t, check("v1.2.3", ErrNotRunning), Skipped)
	expect(t, check("v1.2.3", nil), OK, "ship1")
	expect(t, check("v1.3.0", nil), Warn, "restart")
	if got := check("v1.2.3", errors.New("it hangs")); got.Status != Fail {
		t.Errorf("%+v", got)
	}
}
