package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/schedule"
)

// bytesText is a number of bytes for people.
func bytesText(n uint64) string { return config.SizeText(int64(min(n, 1<<62))) }

// An Instance is a data directory on this machine, with the instance that uses it.
type Instance struct {
	DataDir string
	// Status asks the running instance. The error is [ErrNotRunning] if there is none.
	Status  func(context.Context) (api.InstanceStatus, error)
	Version string // of this program

	status api.InstanceStatus
}

// ErrNotRunning says that no instance uses the data directory.
var ErrNotRunning = errors.New("no instance runs")

// statusTimeout bounds how long a running instance may take to answer.
const statusTimeout = 10 * time.Second

// Title implements [Subject].
func (i *Instance) Title() string { return "data directory " + i.DataDir }

func (i *Instance) checks() []check {
	of := func(judge func(api.InstanceStatus) Finding) func(context.Context) Finding {
		return func(context.Context) Finding { return judge(i.status) }
	}
	onDisk := func(check func(dir string) Finding) func(context.Context) Finding {
		return func(context.Context) Finding { return check(i.DataDir) }
	}
	running := []string{"instance"}
	return []check{
		{name: "directory", within: diskTimeout, run: onDisk(checkDirectory)},
		{name: "disk", needs: []string{"directory"}, within: diskTimeout, run: onDisk(checkDisk)},
		{name: "write", needs: []string{"directory"}, within: diskTimeout,
			run: func(ctx context.Context) Finding { return checkWrite(ctx, i.DataDir) }},
		{name: "instance", needs: []string{"directory"}, within: statusTimeout, run: i.checkRunning},
		{name: "link", needs: running, within: statusTimeout, run: of(judgeLink)},
		{name: "sync", needs: running, within: statusTimeout, run: of(judgeSync)},
		{name: "windows", needs: running, within: statusTimeout, run: of(judgeWindowsNow)},
	}
}

// checkRunning asks the instance for its status, and compares versions.
func (i *Instance) checkRunning(ctx context.Context) Finding {
	s, err := i.Status(ctx)
	switch {
	case errors.Is(err, ErrNotRunning):
		return skipped("no ferry serve runs with this data directory")
	case err != nil:
		var hinted interface{ Hint() string }
		f := fail("the instance does not answer: %s", sentence(err))
		if errors.As(err, &hinted) {
			f.Remedy = hinted.Hint()
		}
		return f
	}
	i.status = s
	role := "root registry"
	if s.Sync != nil {
		role = "connected registry " + s.Name
	}
	if s.Version != i.Version {
		return warn("the %s runs %s, and this program is %s", role, s.Version, i.Version).
			hint("restart ferry serve after an upgrade")
	}
	return ok("the %s runs %s", role, s.Version)
}

// detail returns the first detail of a status with one of the codes; nil is none.
func detail(s *api.SyncStatus, codes ...string) *api.StatusDetail {
	i := slices.IndexFunc(s.Details, func(d api.StatusDetail) bool { return slices.Contains(codes, d.Code) })
	if i < 0 {
		return nil
	}
	return &s.Details[i]
}

// linkRemedies are what to do about each problem with the parent.
var linkRemedies = map[string]string{
	"LinkDown":       "see the checks of the parent; the site tries again within a minute by itself",
	"ParentUnwell":   "look at the parent's log",
	"ParentRefuses":  "make a new connection string at the root, with connected-registry get-settings",
	"ParentNotReady": "wait: the parent has not heard from its own parent yet",
	"Deactivated":    "run ferry sync now, unless another instance shall take its place",
}

// judgeLink says whether the instance reaches its parent.
func judgeLink(s api.InstanceStatus) Finding {
	if s.Sync == nil {
		return ok("a root registry has no parent")
	}
	d := detail(s.Sync, "LinkDown", "ParentUnwell", "ParentRefuses", "ParentNotReady", "Deactivated")
	switch {
	case d == nil:
		return ok("the parent answers while a window is open")
	case d.Code == "ParentNotReady":
		return warn("%s", d.Description).hint("%s", linkRemedies[d.Code])
	}
	return fail("%s", d.Description).hint("%s", linkRemedies[d.Code])
}

// judgeSync says whether the content is in sync.
func judgeSync(s api.InstanceStatus) Finding {
	if s.Sync == nil {
		return ok("a root registry syncs from no parent")
	}
	as := ""
	if s.Sync.AsOfTime != nil {
		as = " as of " + s.Sync.AsOfTime.UTC().Format("2006-01-02 15:04 UTC")
	}
	switch d := detail(s.Sync, "DiskError", "Damaged", "SyncError", "ItemsFailed"); {
	case d != nil && d.Code == "DiskError":
		return fail("%s", d.Description).hint("make room on the disk; the sync goes on by itself")
	case d != nil && d.Code == "Damaged":
		return fail("%s", d.Description).hint("run ferry repair; replace the disk if it happens again")
	case d != nil:
		return fail("%s", d.Description).hint("run ferry sync status --open --data-dir DIR for all of them")
	case s.Sync.Paused:
		return warn("syncs are paused").hint("run ferry sync resume")
	case s.Sync.InSync:
		return ok("in sync%s, %d items", as, s.Sync.ItemsSynced)
	}
	reason := "not known"
	if s.Sync.Reason != nil {
		reason = *s.Sync.Reason
	}
	if d := detail(s.Sync, "BudgetSpent"); d != nil {
		return warn("%s", d.Description).
			hint("wait, or raise it at the root with connected-registry update --byte-budget")
	}
	return warn("not in sync%s: %s", as, strings.TrimSuffix(reason, ".")).
		hint("wait for the sync to end; ferry sync status shows its progress")
}

func judgeWindowsNow(s api.InstanceStatus) Finding { return judgeWindows(s, time.Now()) }

// judgeWindows says whether a sync may run at a time, and when the next may.
func judgeWindows(s api.InstanceStatus, now time.Time) Finding {
	if s.Sync == nil || s.Parent == nil {
		return ok("a root registry has no sync window")
	}
	if s.Parent.Schedule == "" {
		return skipped("the instance was not activated yet, and does not know its schedule")
	}
	date := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
	w, err := schedule.Parse(s.Parent.Schedule, s.Parent.SyncWindow)
	if err != nil {
		return fail("this program cannot read the sync schedule, so it syncs continuously: %s", sentence(err)).
			hint("upgrade this instance, or give it another schedule with connected-registry update --sync-schedule")
	}
	if w.Continuous() {
		return ok("syncs run continuously")
	}
	open, until := w.Open(now)
	next := w.Next(now)
	switch {
	case open:
		return ok("a window is open until %s, the next opens at %s", date(until), date(next))
	case s.Sync.NextSyncTime == nil:
		return ok("a window is open by request, the next opens at %s", date(next))
	case next.IsZero():
		return fail("no window will open: the schedule has no further time").
			hint("give it another with connected-registry update --sync-schedule")
	}
	return ok("no window is open, the next opens at %s", date(next))
}
