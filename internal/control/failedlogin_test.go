package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb"
)

// failedLogins returns the failed logins in the audit log, oldest first.
func failedLogins(t *testing.T, i *fleettest.Instance) (all []metadb.AuditEntry) {
	t.Helper()
	entries, err := metadb.Read(t.Context(), i.DB,
		func(tx *metadb.Tx) ([]metadb.AuditEntry, error) { return tx.Audit(metadb.AuditQuery{Limit: 1000}) })
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Action == "failed-login" {
			all = append([]metadb.AuditEntry{e}, all...)
		}
	}
	return all
}

func TestFailedLoginIsLoggedAndAudited(t *testing.T) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) {
		root.CallAs(t, "robot1", "guess", "GET", "/tokens", nil).Fails(t, 401, "UNAUTHORIZED")
		got := failedLogins(t, root)
		if len(got) != 1 || got[0].Object != "logins/robot1" || got[0].Sender != "127.0.0.1" || got[0].Actor != "" {
			t.Errorf("audit log %+v", got)
		}
		if log := root.Log.String(); !strings.Contains(log, "login failed") || !strings.Contains(log, "robot1") {
			t.Errorf("log %s", log)
		}
	})
}

func TestFailedLoginsCannotFloodTheLogs(t *testing.T) {
	root := fleettest.NewRoot(t)
	const tries = 20_000
	for n := range tries {
		root.Control.LoginFailed(t.Context(), fmt.Sprintf("2001:db8::%x", n), "admin")
	}
	got := failedLogins(t, root)
	if len(got) != 60 || strings.Count(root.Log.String(), "login failed") != len(got) {
		t.Errorf("%d entries, and %d lines", len(got), strings.Count(root.Log.String(), "login failed"))
	}
	root.Now = root.Now.Add(time.Minute)
	root.Control.LoginFailed(t.Context(), "192.0.2.1", "admin")
	root.Control.LoginFailed(t.Context(), "192.0.2.2", "admin")
	got = failedLogins(t, root)
	last := got[len(got)-1]
	if len(got) != 61 || last.Sender != "192.0.2.1" || !strings.Contains(last.Detail, fmt.Sprint(tries-60)) {
		t.Errorf("after a minute there are %d, the last is %+v", len(got), last)
	}
}

func TestSourceIsLoggedAgainAfterAPause(t *testing.T) {
	root := fleettest.NewRoot(t)
	for _, after := range []time.Duration{0, time.Second, time.Minute, 5 * time.Minute} {
		root.Now = start.Add(after)
		root.Control.LoginFailed(t.Context(), "192.0.2.1", "admin")
	}
	got := failedLogins(t, root)
	if len(got) != 2 || got[0].Detail != "" || !strings.HasPrefix(got[1].Detail, "2 more failed") {
		t.Errorf("%+v", got)
	}
}

func TestLoggedLoginNamesAreHarmless(t *testing.T) {
	root := fleettest.NewRoot(t)
	for n, name := range []string{root.Password, "x " + root.Password, "a\x00\x1b[2J\xffb\u202e",
		strings.Repeat("é", 200)} {
		root.Control.LoginFailed(t.Context(), fmt.Sprint(n), name)
	}
	var got []string
	for _, e := range failedLogins(t, root) {
		got = append(got, strings.TrimPrefix(e.Object, "logins/"))
	}
	want := []string{"(a password)", "(a password)", "a [2J\ufffdb", strings.Repeat("é", 50)}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q", got)
	}
	if strings.Contains(root.Log.String(), root.Password) {
		t.Error("a password is in the log")
	}
}
