package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ferry/internal/api"

	"github.com/google/go-cmp/cmp"
)

func TestStatusTextGivesReasonAndTime(t *testing.T) {
	detail := func(code, description string) api.StatusDetail {
		return api.StatusDetail{Code: code, Description: description}
	}
	at, next := new(time.Date(2030, 1, 1, 23, 0, 0, 0, time.UTC)), new(time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC))
	verdict := func(status string, reason *string) api.Verdict {
		return api.Verdict{InSync: status == api.InSync, Status: status, AsOfTime: at, Reason: reason}
	}
	open := verdict(api.NotInSync, new("items are still to be fetched or removed"))
	for _, test := range []struct {
		name   string
		status api.SyncStatus
		want   string
	}{
		{"in sync", api.SyncStatus{Verdict: verdict(api.InSync, nil), ItemsSynced: 3},
			"In sync as of 2030-01-01T23:00:00Z: 3 items."},
		{"one item", api.SyncStatus{Verdict: verdict(api.InSync, nil), ItemsSynced: 1},
			"In sync as of 2030-01-01T23:00:00Z: 1 item."},
		{"one is pending", api.SyncStatus{Verdict: open, ItemsSynced: 2, ItemsPending: 1},
			"Not in sync as of 2030-01-01T23:00:00Z: 2 items are in sync, 1 is pending, 0 failed."},
		{"it is behind", api.SyncStatus{Verdict: verdict(api.NotInSync, new("no sync has finished yet"))},
			"Not in sync as of 2030-01-01T23:00:00Z: no sync has finished yet."},
		{"nothing was ever known",
			api.SyncStatus{Verdict: api.Verdict{Status: api.Unknown, Reason: new("its parent was never heard")}},
			"Unknown: its parent was never heard."},
		{
			"nothing is known",
			api.SyncStatus{
				Verdict: verdict(api.Unknown, new("the parent refuses this registry")), ItemsSynced: 1,
				Result: &api.RegistrySyncResult{LastSuccessfulSyncEndTime: at},
			},
			"Unknown since 2030-01-01T23:00:00Z: the parent refuses this registry. " +
				"Then 1 item was in sync, 0 were pending, 0 failed." +
				" The last sync that succeeded ended at 2030-01-01T23:00:00Z.",
		},
		{
			"not all sizes are known",
			api.SyncStatus{
				Verdict: open, ItemsSynced: 1, ItemsPending: 76,
				ByteProgress: api.ByteProgressOf(2<<20, 10<<20, 70, 1<<20),
			},
			"Not in sync as of 2030-01-01T23:00:00Z: 1 item is in sync, 76 are pending, 0 failed. " +
				"2.0 MiB of at least 10.0 MiB were received, 1.0 MiB/s.",
		},
		{
			"the budget is spent",
			api.SyncStatus{
				Verdict: open, ItemsSynced: 1, ItemsPending: 2, NextSyncTime: next,
				Details: []api.StatusDetail{detail("BudgetSpent",
					"the byte budget of 2GiB/day is spent; syncs go on in the next period")},
			},
			"Not in sync as of 2030-01-01T23:00:00Z: 1 item is in sync, 2 are pending, 0 failed.\n" +
				"The byte budget of 2GiB/day is spent; syncs go on in the next period.\n" +
				"The next period in which a sync may run begins at 2030-01-02T00:00:00Z.",
		},
		{
			"the window is closed, and the disk was full",
			api.SyncStatus{
				Verdict: verdict(api.NotInSync, new("items failed")), ItemsFailed: 1, NextSyncTime: next,
				Details: []api.StatusDetail{detail("DiskError", "the disk is full."),
					detail("ItemsFailed", "1 items are not synced")},
			},
			"Not in sync as of 2030-01-01T23:00:00Z: 0 items are in sync, 0 are pending, 1 failed.\n" +
				"The disk is full.\n1 items are not synced.\n" +
				"The next sync window opens at 2030-01-02T00:00:00Z; ferry sync now opens one at once.",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, statusText(test.status)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// runAt runs a command against a registry that answers all requests with body.
func runAt(t *testing.T, body string, args ...string) (stdout, stderr string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
	defer srv.Close()
	var out, errs bytes.Buffer
	vars := map[string]string{"FERRY_REGISTRY": srv.URL, "FERRY_USERNAME": "admin", "FERRY_PASSWORD": "x",
		"FERRY_CONFIG_DIR": t.TempDir()}
	env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		LookupEnv: Variables(vars)}
	if code := Run(t.Context(), args, env); code != 0 {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	return out.String(), errs.String()
}

func TestSyncNowWarnsOfASpentBudget(t *testing.T) {
	const spent = `{"inSync":false,"details":[{"code":"BudgetSpent",` +
		`"description":"the byte budget of 2GiB/day is spent; syncs go on in the next period"}]}`
	_, stderr := runAt(t, spent, "sync", "now")
	if !strings.HasPrefix(stderr, "warning: the byte budget of 2GiB/day is spent;") ||
		!strings.Contains(stderr, "\nhint: ") {
		t.Errorf("%q", stderr)
	}
	for _, quiet := range []struct{ body, order string }{{`{"inSync":true,"details":[]}`, "now"}, {spent, "resume"}} {
		if _, stderr := runAt(t, quiet.body, "sync", quiet.order); stderr != "" {
			t.Errorf("%s: %q", quiet.order, stderr)
		}
	}
}

func TestHelpOfSyncStatusShowsTextAsDefault(t *testing.T) {
	for _, args := range [][]string{{"sync", "status"}, {"connected-registry", "sync-status"}} {
		help, _ := runAt(t, "", append(args, "--help")...)
		if !strings.Contains(help, "(default text)") || strings.Contains(help, "(default json)") {
			t.Errorf("%s", help)
		}
	}
}

func TestSyncStatusTextDescribesADescendant(t *testing.T) {
	at := new(time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC))
	sync := &api.SyncStatus{Verdict: api.Verdict{InSync: true, Status: api.InSync, AsOfTime: at}, ItemsSynced: 1}
	for _, test := range []struct {
		name  string
		child api.DescendantSync
		want  string
	}{
		{"new", api.DescendantSync{
			Verdict:         api.Verdict{Status: api.Unknown, AsOfTime: at, Reason: new("it was never activated")},
			ConnectionState: "Offline", Activation: api.Activation{Status: "Inactive"},
		}, "ship1 is Offline. Unknown since 2030-01-02T00:00:00Z: it was never activated."},
		{"heard", api.DescendantSync{ConnectionState: "Online", Activation: api.Activation{Status: "Active"},
			AgeSeconds: new(int64(61)), HeardTime: at, Sync: sync},
			"ship1 is Online. Its last report came 1m1s ago, at 2030-01-02T00:00:00Z.\n" +
				"In sync as of 2030-01-02T00:00:00Z: 1 item."},
		{"deactivated",
			api.DescendantSync{ConnectionState: "Offline", Activation: api.Activation{Status: "Inactive"},
				AgeSeconds: new(int64(61)), HeardTime: at, Sync: sync},
			"ship1 is Offline: it is not activated. " +
				"Its former instance's last report came 1m1s ago, at 2030-01-02T00:00:00Z.\n" +
				"In sync as of 2030-01-02T00:00:00Z: 1 item."},
	} {
		test.child.Name = "ship1"
		if diff := cmp.Diff(test.want, descendantText(test.child)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestAnItemTableFitsTheTerminal(t *testing.T) {
	items := []api.SyncItem{
		{
			Repository: "factory/app", Tag: new("1.0"), State: api.Failed,
			Digest: new("sha256:" + strings.Repeat("0", 64)), ParentDigest: new("sha256:" + strings.Repeat("1", 64)),
			LastMatchTime: new(time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)),
			Error:         new("fetch layer: " + strings.Repeat("it is not there; ", 9)),
		},
		{
			Repository: "factory/tool", Tag: new("2.0"), State: api.Pending,
			BytesTotal: new(int64(2e6)), BytesDone: new(int64(1e6)), BytesPerSecond: new(int64(5e5)),
			EtaSeconds: new(int64(2)),
		},
	}
	columns := itemColumns(items)
	for _, test := range []struct {
		limit int
		want  string
	}{
		{0, "REPOSITORY TAG STATE DONE RATE LEFT HERE PARENT LAST MATCH (UTC) ERROR"},
		{200, "REPOSITORY TAG STATE DONE RATE LEFT HERE PARENT LAST MATCH (UTC) ERROR"},
		{150, "REPOSITORY TAG STATE DONE RATE LEFT PARENT LAST MATCH (UTC) ERROR"},
		{130, "REPOSITORY TAG STATE DONE RATE LEFT LAST MATCH (UTC) ERROR"},
		{100, "REPOSITORY TAG STATE DONE RATE LEFT ERROR"},
		{80, "REPOSITORY TAG STATE LEFT ERROR"},
		{10, "REPOSITORY"},
	} {
		lines := strings.Split(layout(items, columns, test.limit), "\n")
		if got := strings.Join(strings.Fields(lines[0]), " "); got != test.want {
			t.Errorf("%d: %s, want %s", test.limit, got, test.want)
		}
		for _, line := range lines {
			if n := len([]rune(line)); test.limit >= 80 && n > test.limit {
				t.Errorf("%d: %d characters: %s", test.limit, n, line)
			}
		}
		if test.limit == 80 && !strings.HasSuffix(lines[2], "…") || test.limit == 0 && strings.Contains(lines[2], "…") {
			t.Errorf("%d: the error is cut or not: %s", test.limit, lines[2])
		}
	}
}
