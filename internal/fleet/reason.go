package fleet

import (
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/wire"
)

// The codes of reasons for a state. Those of status details have the same text.
const (
	reasonDisk         = "DiskError"
	reasonItemsFailed  = "ItemsFailed"
	reasonSyncError    = "SyncError"
	reasonClock        = "ClockSkew"
	reasonRefused      = wire.ParentRefuses
	reasonLinkDown     = "LinkDown"
	reasonParentSilent = "ParentSilent"
	reasonParentBehind = "ParentBehind"
	reasonNoProgress   = "NoProgress"
	reasonDamaged      = wire.Damaged
	reasonPaused       = "Paused"
	reasonBudget       = "BudgetSpent"
	reasonWindow       = "WindowClosed"
	reasonInactive     = "NotActivated"
	reasonListing      = "Listing"
	reasonGap          = wire.PermissionGap
	reasonConflict     = wire.Conflict
	reasonNotAccepted  = wire.ChangesRefused
	reasonTooOld       = wire.ParentTooOld
)

// budgetSpent is the code of the status detail of a registry that has spent its byte budget.
const budgetSpent = reasonBudget

// actions say for each reason what settles it, in at most 57 characters, so that a line with the
// reason fits a terminal. The map is never written.
var actions = map[string]string{
	reasonDisk:         "make room on the site's disk, or narrow its filters",
	reasonItemsFailed:  "see its errors: sync-status --open -n NAME",
	reasonSyncError:    "see the log at the site: its database or its disk fails",
	reasonClock:        "set the clock of the site, or of this machine",
	reasonRefused:      "enable its sync token, or give it a new password",
	reasonLinkDown:     "look at the site's power and link; it continues by itself",
	reasonParentSilent: "look at the registry above it first",
	reasonParentBehind: "look at the registry above it first",
	reasonNoProgress:   "see what is missing: sync-status --open -n NAME",
	reasonDamaged:      "none: the site fetches the damaged content again",
	reasonPaused:       "resume at the site: ferry sync resume",
	reasonBudget:       "wait, raise the byte budget, or make a repository urgent",
	reasonWindow:       "wait, or open a window at the site: ferry sync now",
	reasonInactive:     "start the instance at the site with its connection string",
	reasonListing:      "none: its parent is listing the content",
	reasonConflict:     "decide about the tag that changed at both places",
	reasonNotAccepted:  "unlock it, permit it, or: sync resolve --discard",
	reasonTooOld:       "update its parent to a build that knows ReadWrite",
	reasonGap:          "grant it to its ancestors: permissions update --add",
}

// needsYou are the reasons that only a person can settle, the worst first.
var needsYou = []string{
	reasonDisk, reasonSyncError, reasonItemsFailed, reasonTooOld, reasonNotAccepted, reasonConflict, reasonClock,
}

// maxStill is how long a registry that may sync can show no progress before it counts as behind. It
// is longer than a poll takes on a slow link, and than the first tries after an error.
const maxStill = 10 * time.Minute

// states are all states, the worst last.
var states = []string{
	api.InSync, api.CatchingUp, api.Waiting, api.Unknown, api.Behind, api.Silent, api.NeedsYou,
}

// States returns all states of connected registries, the worst last.
func States() []string { return slices.Clone(states) }

// severityOf orders the states: the worst is the highest.
func severityOf(state string) int { return slices.Index(states, state) }

// judge sets the state and its reason:
//
//   - InSync, if the verdict is so and nothing needs a person.
//   - NeedsYou, if a person must act: the parent refuses the site, or a status detail says so. Its
//     content may be in sync, as with a conflict.
//   - Silent, if it, or a registry above it, should have been heard and was not.
//   - Unknown, if no instance is activated, or the parent is still listing the content.
//   - Waiting, if that is planned: no sync window is open, the budget is spent, or syncs are paused.
//   - CatchingUp, if it moved in the last minutes, or had no time yet.
//   - Behind, if it should move and does not.
func (v *Standing) judge(e evidence, parent *Standing, now time.Time) {
	st := v.report.Status
	problem := slices.IndexFunc(needsYou, func(code string) bool { return hasDetail(st, code) })
	switch {
	case v.verdict.InSync && problem < 0:
		v.State = api.InSync
	case !v.Active || v.Heard.IsZero():
		v.State, v.Reason = api.Unknown, reasonInactive
	case e.unknown == unknownToken,
		v.Silent && st.LastRefused != nil && st.LastRefused.At.After(v.Heard):
		v.State, v.Reason = api.NeedsYou, reasonRefused
	case v.Silent:
		v.State, v.Reason = api.Silent, reasonLinkDown
		if e.silent != v.registry {
			v.Reason, v.Cause = reasonParentSilent, e.silent.Name
		}
	case problem >= 0:
		v.State, v.Reason = api.NeedsYou, needsYou[problem]
	case e.gap:
		v.State, v.Reason = api.NeedsYou, reasonGap
	case v.BytesPerSecond > 0 && v.Open:
		v.State = api.CatchingUp // also with a spent budget, if a repository is urgent
	case st.Paused:
		v.State, v.Reason = api.Waiting, reasonPaused
	case hasDetail(st, budgetSpent):
		v.State, v.Reason = api.Waiting, reasonBudget
	case !v.Open:
		v.State, v.Reason = api.Waiting, reasonWindow
	case parent != nil && !parent.verdict.InSync && v.Outdated && hasAll(st):
		v.State, v.Reason, v.Cause = parent.State, reasonParentBehind, parent.Name
		if severityOf(parent.State) >= severityOf(api.Unknown) {
			v.State = api.Behind
		}
	case now.Sub(latest(v.report.MovedAt, v.Since, v.opened)) <= maxStill:
		v.State = api.CatchingUp
	case hasDetail(st, wire.Damaged):
		v.State, v.Reason = api.Behind, reasonDamaged
	case st.Watermarks == nil:
		v.State, v.Reason = api.Unknown, reasonListing
	default:
		v.State, v.Reason = api.Behind, reasonNoProgress
	}
}

// latest returns the last of some times.
func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }
