package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/mirror"
	"ferry/internal/replication"
)

// A runner records what it is told.
type runner struct {
	management.Mirrors // the other methods are not called here

	changed []string
	woken   int
	state   mirror.RunStatus
}

func (r *runner) Status(string) mirror.RunStatus { return r.state }
func (r *runner) Changed(rule string)            { r.changed = append(r.changed, rule) }
func (r *runner) Wake()                          { r.woken++ }
func (r *runner) EncryptPassword(l mirror.Location, password string) string {
	if password == "" {
		return ""
	}
	return fmt.Sprintf("sealed for %s: %d", l.Address, len(password))
}

// newMirroring returns a root whose rules r runs.
func newMirroring(t *testing.T, db *metadb.DB) (*fleettest.Instance, *runner) {
	t.Helper()
	root, r := fleettest.New(t, db, ""), &runner{}
	root.Serve(t, management.Options{Mirrors: r})
	return root, r
}

func TestMirrorRuleLifecycle(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		root, r := newMirroring(t, db)
		var v api.MirrorRule
		put := object{"source": "ghcr.io/acme/app", "repository": "acme/app", "window": "PT3H", "username": "bot",
			"password": "hush-hush", "tagFilters": []string{">=1"}}
		text := root.Call(t, "PUT", "/mirror-rules/app", put)
		text.OK(t, &v)
		if v.Schedule != "0 * * * *" || *v.Window != "PT3H" || *v.Username != "bot" || v.Status.State != "Waiting" ||
			v.Repository != "acme/app" {
			t.Errorf("%+v", v)
		}
		root.Call(t, "PATCH", "/mirror-rules/app", object{"schedule": "0 3 * * *", "window": "PT2H"}).OK(t, &v)
		if v.Schedule != "0 3 * * *" || *v.Window != "PT2H" || *v.Username != "bot" || len(v.TagFilters) != 1 {
			t.Errorf("%+v", v)
		}
		row := func() (row metadb.MirrorRule) {
			t.Helper()
			err := db.View(t.Context(), func(tx *metadb.Tx) (err error) {
				row, err = tx.MirrorRule("app")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return row
		}
		if m := row(); m.Secret != "sealed for https://ghcr.io: 9" || !m.RequestedAt.IsZero() ||
			strings.Contains(string(m.Spec), "hush") {
			t.Errorf("%+v", m)
		}
		root.Call(t, "POST", "/mirror-rules/app/run", nil).OK(t, &v)
		if m := row(); !m.RequestedAt.Equal(start) || r.woken != 1 {
			t.Errorf("a run was requested at %s, and the runner was woken %d times", m.RequestedAt, r.woken)
		}
		// A password must not be sent to another registry, nor kept without its user name.
		root.Call(t, "PATCH", "/mirror-rules/app", object{"source": "http://ghcr.io/acme/app"}).Fails(t, 400, "INVALID",
			"is not sent to another registry")
		root.Call(t, "PATCH", "/mirror-rules/app", object{"source": "quay.io/acme/app", "password": "other"}).OK(t, &v)
		if m := row(); m.Secret != "sealed for https://quay.io: 5" {
			t.Errorf("%+v", m)
		}
		root.Call(t, "PATCH", "/mirror-rules/app", object{"username": ""}).OK(t, &v)
		if m := row(); m.Secret != "" || v.Username != nil {
			t.Errorf("%+v", m)
		}
		root.Call(t, "PATCH", "/mirror-rules/app", object{"password": "x"}).Fails(t, 400, "INVALID",
			"needs a user name")
		root.Call(t, "DELETE", "/mirror-rules/app", nil).OK(t, nil)
		root.Call(t, "GET", "/mirror-rules/app", nil).Fails(t, 404, "NOT_FOUND", "ferry mirror list")
		if diff := cmp.Diff([]string{"app", "app", "app", "app", "app"}, r.changed); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWrittenRuleRunsUnlessItHasAWindow(t *testing.T) {
	root, _ := newMirroring(t, dbtest.SQLite(t))
	put := func(change object) { t.Helper(); root.Call(t, "PUT", "/mirror-rules/app", change).OK(t, nil) }
	patch := func(change object) { t.Helper(); root.Call(t, "PATCH", "/mirror-rules/app", change).OK(t, nil) }
	for _, step := range []struct {
		name   string
		write  func(object)
		object object
		asked  bool
	}{
		{"created", put, object{"source": "ghcr.io/a", "repository": "a"}, true},
		{"replaced", put, object{"source": "ghcr.io/b", "repository": "a"}, true},
		{"changed", patch, object{"tagFilters": []string{"v*"}}, true},
		{"bound to a window", patch, object{"window": "PT1H"}, false},
		{"replaced, with a window", put, object{"source": "ghcr.io/c", "repository": "a", "window": "PT1H"}, false},
	} {
		step.write(step.object)
		var v api.MirrorRule
		root.Call(t, "GET", "/mirror-rules/app", nil).OK(t, &v)
		if (v.Status.State == "Waiting") != step.asked {
			t.Errorf("%s: the rule is %s", step.name, v.Status.State)
		}
		// The run has ended; it began a moment ago.
		ran(t, root,
			metadb.MirrorRule{Name: "app", StartedAt: start.Add(-time.Minute), EndedAt: start, SucceededAt: start})
		asked(t, root, start.Add(-time.Hour))
	}
}

// ran records how the last run of a rule ended.
func ran(t *testing.T, root *fleettest.Instance, row metadb.MirrorRule) {
	t.Helper()
	if err := root.DB.Update(t.Context(), func(tx *metadb.Tx) error { return tx.SetMirrorRun(row) }); err != nil {
		t.Fatal(err)
	}
}

// asked records when a run of the rule app was requested.
func asked(t *testing.T, root *fleettest.Instance, at time.Time) {
	t.Helper()
	if err := root.DB.Update(t.Context(),
		func(tx *metadb.Tx) error { return tx.RequestMirrorRun("app", at) }); err != nil {
		t.Fatal(err)
	}
}

func TestRunRequestedDuringARunFollowsIt(t *testing.T) {
	root, r := newMirroring(t, dbtest.SQLite(t))
	root.Call(t, "PUT", "/mirror-rules/app", object{"source": "ghcr.io/acme/app", "repository": "acme/app"}).OK(t, nil)
	ran(t, root, metadb.MirrorRule{Name: "app", StartedAt: start, RetrySince: start})
	r.state = mirror.RunStatus{Running: true}
	var v api.MirrorRule
	root.Call(t, "POST", "/mirror-rules/app/run", nil).OK(t, &v)
	if v.Status.State != "Running" {
		t.Errorf("%+v", v.Status)
	}
	ran(t, root, metadb.MirrorRule{Name: "app", StartedAt: start, EndedAt: start, SucceededAt: start})
	r.state = mirror.RunStatus{}
	root.Call(t, "GET", "/mirror-rules/app", nil).OK(t, &v)
	if v.Status.State != "Waiting" {
		t.Errorf("after a run that began before the request, the rule is %s", v.Status.State)
	}
	if len(r.changed) != 1 || r.woken != 1 {
		t.Errorf("the runner was told of %q and woken %d times: the run was interrupted, "+
			"or no other follows", r.changed,
			r.woken)
	}
}

func TestMirrorRuleStateIsThatOfItsLastRun(t *testing.T) {
	root, r := newMirroring(t, dbtest.SQLite(t))
	root.Call(t, "PUT", "/mirror-rules/app",
		object{"source": "ghcr.io/acme/app", "repository": "acme/app", "schedule": "0 6 * * *", "window": "PT2H"}).OK(t,
		nil)
	tick := time.Date(2030, 1, 2, 6, 0, 0, 0, time.UTC) // the clock shows 3:04:05
	before := start.Add(-time.Hour)
	for name, c := range map[string]struct {
		row  metadb.MirrorRule
		run  mirror.RunStatus
		want string
		next time.Time
	}{
		"new": {metadb.MirrorRule{}, mirror.RunStatus{}, "Waiting", tick},
		"in sync": {metadb.MirrorRule{StartedAt: before, EndedAt: start, SucceededAt: start},
			mirror.RunStatus{}, "InSync", tick},
		"killed in its first run": {metadb.MirrorRule{StartedAt: before, RetrySince: before}, mirror.RunStatus{},
			"Interrupted", start},
		"killed in a later run": {metadb.MirrorRule{StartedAt: before, EndedAt: before.Add(-time.Hour),
			SucceededAt: before.Add(-time.Hour), RetrySince: before}, mirror.RunStatus{}, "Interrupted", start},
		"killed, the window is over": {metadb.MirrorRule{StartedAt: before.Add(-time.Hour),
			RetrySince: before.Add(-time.Hour)}, mirror.RunStatus{}, "Interrupted", tick},
		"stopped": {metadb.MirrorRule{StartedAt: before, EndedAt: start, RetrySince: before},
			mirror.RunStatus{}, "Interrupted", start},
		"failed for good": {metadb.MirrorRule{StartedAt: before, EndedAt: start,
			SucceededAt: before.Add(-time.Hour), Error: "401"}, mirror.RunStatus{}, "Failed", tick},
		"failed for a while": {metadb.MirrorRule{StartedAt: before, EndedAt: start, Error: "502",
			RetrySince: before}, mirror.RunStatus{NotBefore: start.Add(10 * time.Minute)}, "Failed",
			start.Add(10 * time.Minute)},
		"failed, too late to go on": {metadb.MirrorRule{StartedAt: before, EndedAt: start, Error: "502",
			RetrySince: before}, mirror.RunStatus{NotBefore: start.Add(time.Hour)}, "Failed", tick},
		"running, for the first time": {metadb.MirrorRule{StartedAt: before, RetrySince: before},
			mirror.RunStatus{Running: true}, "Running", tick},
	} {
		c.row.Name, r.state = "app", c.run
		ran(t, root, c.row)
		var v api.MirrorRule
		root.Call(t, "GET", "/mirror-rules/app", nil).OK(t, &v)
		if next := v.Status.NextRunTime; v.Status.State != c.want || next == nil || !next.Equal(c.next) {
			t.Errorf("%s: the rule is %s and runs at %s, want %s and %s", name, v.Status.State, next, c.want, c.next)
		}
	}
}

func TestInvalidMirrorRuleIsRefused(t *testing.T) {
	root, r := newMirroring(t, dbtest.SQLite(t))
	good := func(change object) object {
		o := object{"source": "ghcr.io/acme/app", "repository": "acme/app"}
		for k, v := range change {
			o[k] = v
		}
		return o
	}
	root.Call(t, "PUT", "/mirror-rules/app", good(nil)).OK(t, nil)
	for text, change := range map[string]object{
		"names no registry": {"source": "alpine"},
		"cron expression":   {"schedule": "hourly"},
		"tag filter":        {"tagFilters": []string{"/(/"}},
		"needs a user name": {"password": "x"},
		"certificate":       {"certificateAuthority": "x"},
		"repository":        {"repository": "../x"},
	} {
		root.Call(t, "PUT", "/mirror-rules/other", good(change)).Fails(t, 400, "INVALID", text)
	}
	root.Call(t, "PUT", "/mirror-rules/other", good(nil)).Fails(t, 409, "CONFLICT",
		"the mirror rule 'app' keeps the repository acme/app")
	root.Call(t, "PUT", "/mirror-rules/app", good(object{"repository": "acme/other"})).Fails(t, 409, "CONFLICT",
		"keeps the repository")
	root.Call(t, "PUT", "/mirror-rules/.app", good(nil)).Fails(t, 400, "INVALID", "not a name for a mirror rule")
	if len(r.changed) != 1 {
		t.Errorf("the runner was told of %q", r.changed)
	}
}

func TestMirrorRuleShowsTheProgressOfItsRuns(t *testing.T) {
	root, r := newMirroring(t, dbtest.SQLite(t))
	root.Call(t, "PUT", "/mirror-rules/app",
		object{"source": "ghcr.io/acme/app", "repository": "acme/app", "window": "PT2H"}).OK(t, nil)
	err := root.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		for tag, state := range map[string]string{"1": "synced", "2": "failed", "3": "pending"} {
			item := metadb.SyncItem{Source: mirror.SourceName("app"), Repository: "acme/app", Item: tag, Tag: tag,
				Digest: "sha256:1", State: state}
			if state == "failed" {
				item.Error = "no such blob"
			}
			if err := tx.PutSyncItem(item); err != nil {
				return err
			}
		}
		return tx.SetMirrorRun(metadb.MirrorRule{Name: "app", StartedAt: start, EndedAt: start,
			Error: "some tags failed"})
	})
	if err != nil {
		t.Fatal(err)
	}
	var v api.MirrorRule
	root.Call(t, "GET", "/mirror-rules/app", nil).OK(t, &v)
	s := v.Status
	if s.State != "Failed" || s.ItemsSynced != 1 || s.ItemsFailed != 1 || s.ItemsPending != 1 ||
		*s.Error != "some tags failed" {
		t.Errorf("%+v", s)
	}
	if diff := cmp.Diff([]api.MirrorFailure{{Tag: "2", Error: "no such blob"}}, s.Failures); diff != "" {
		t.Error(diff)
	}
	r.state = mirror.RunStatus{Running: true, Problem: "no route to host", BytesPerSecond: 10,
		Progress: replication.Progress{BytesTotal: 100, BytesDone: 45}}
	root.Call(t, "GET", "/mirror-rules/app", nil).OK(t, &v)
	if v.Status.State != "Running" || *v.Status.Error != "no route to host" || v.Status.BytesPerSecond != 10 ||
		*v.Status.EtaSeconds != 6 {
		t.Errorf("%+v", v.Status)
	}
}

func TestFiltersAreCaseSensitive(t *testing.T) {
	root, _ := newMirroring(t, dbtest.SQLite(t))
	want := []string{"V1.*", "v1.*"}
	var rule api.MirrorRule
	root.Call(t, "PUT", "/mirror-rules/app",
		object{"source": "ghcr.io/acme/app", "repository": "acme/app", "tagFilters": want}).OK(t, &rule)
	if diff := cmp.Diff(want, rule.TagFilters); diff != "" {
		t.Errorf("mirror rule: %s", diff)
	}
	var ship api.ConnectedRegistry
	root.Call(t, "PUT", "/connected-registries/ship1",
		object{"repositories": []string{"app/a"}, "tagFilters": want}).OK(t, &ship)
	if diff := cmp.Diff(want, ship.TagFilters); diff != "" {
		t.Errorf("connected registry: %s", diff)
	}
}

func TestLimitedAdminLearnsNothingOfOtherMirrorRules(t *testing.T) {
	root, _ := newMirroring(t, dbtest.SQLite(t))
	put := func(repository string) object {
		return object{"source": "ghcr.io/acme/app", "repository": repository}
	}
	root.Call(t, "PUT", "/mirror-rules/hidden", put("secret")).OK(t, nil)
	root.Call(t, "PUT", "/operators/baltic", object{"role": "admin", "repositories": []string{"team/*"},
		"password": "a pass phrase"}).OK(t, nil)
	call := func(repository string) string {
		r := root.CallAs(t, "baltic", "a pass phrase", "PUT", "/mirror-rules/new", put(repository))
		r.Fails(t, 403, "DENIED")
		return strings.ReplaceAll(r.Text, repository, "NAME")
	}
	if taken, free := call("secret"), call("nowhere"); taken != free {
		t.Errorf("a mirrored repository is answered with\n%s\nand another one with\n%s", taken, free)
	}
}
