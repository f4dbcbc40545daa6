package gateway_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// pollOfVersion1 is a poll as a child of version 1 sends it: the program of commit df51880.
const pollOfVersion1 = `{"name":"ship1","instanceId":"instance","capability":1,"report":{"self":{"name":"ship1",` +
	`"instanceId":"instance","version":"dev","state":"Syncing","at":"2026-11-28T15:46:06.846089826Z",` +
	`"itemsSynced":4,"itemsPending":1,"itemsFailed":0,"open":[{"repository":"base/os","tag":"v1",` +
	`"error":"\"open\": \"from\":","bytesTotal":3145728}]},"descendants":[{"name":"cabin1","instanceId":"c",` +
	`"version":"dev","state":"Online","at":"2026-11-28T15:46:06Z","itemsSynced":0,"itemsPending":0,"itemsFailed":0,` +
	`"lastRefused":{"at":"2026-11-28T15:46:03Z","from":"10.0.0.7","why":"the password is wrong"}}]}}`

func TestReportOfVersion1IsRead(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	resp, problem := f.post(t, wire.PathPoll, "", []byte(pollOfVersion1))
	if resp.StatusCode != 200 || len(f.controlPlane.reports) != 1 {
		t.Fatalf("the poll was answered with %d %+v", resp.StatusCode, problem)
	}
	r := f.controlPlane.reports[0]
	want := []wire.OutOfSyncItem{{Repository: "base/os", Tag: "v1", Error: `"open": "from":`, BytesTotal: 3145728}}
	if diff := cmp.Diff(want, r.Self.OutOfSync); diff != "" {
		t.Error(diff)
	}
	if l := r.Descendants[0].LastRefused; l == nil || l.Sender != "10.0.0.7" || l.Reason != "the password is wrong" {
		t.Errorf("the last refused login is %+v", l)
	}
}

func TestReportThatWouldGrowTooLargeIsRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	body := `{"name":"ship1"` + strings.Repeat(`,"open":0`, 400_000) + "}"
	resp, problem := f.post(t, wire.PathPoll, "", []byte(body))
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("the poll was answered with %d %+v", resp.StatusCode, problem)
	}
}

func TestChildOfVersion1GetsItsNamesInPlans(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	want := wire.Want{Repository: "app/a", Digest: f.image("app/a", "1", "v1")}
	for capability, key := range map[int]string{0: "told", 1: "told", 2: "complete", 3: "complete"} {
		q, err := json.Marshal(wire.PlanRequest{Name: "ship1", Capability: capability, Want: []wire.Want{want}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest(http.MethodPost, f.server.URL+wire.PathPlan, bytes.NewReader(q))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ship1", "secret")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(lines), "\n{\""+key+"\":{\"repository\":\"app/a\",") {
			t.Errorf("capability %d gets no %q:\n%s", capability, key, lines)
		}
	}
}

// parentOf returns a parent of a version.
func parentOf(version string, polls *[]string, plan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathPlan {
			io.WriteString(w, plan)
			return
		}
		body, _ := io.ReadAll(r.Body)
		*polls = append(*polls, string(body))
		io.WriteString(w, `{"capability":`+version+`}`)
	}
}

func TestParentOfVersion1GetsItsNames(t *testing.T) {
	report := &wire.Report{Self: wire.Status{
		Name: "s", OutOfSync: []wire.OutOfSyncItem{{Error: `"outOfSync":`}},
		LastRefused: &wire.RefusedLogin{Sender: "a", Reason: "b"},
	}}
	version1 := []string{`"open":[{`, `\"outOfSync\":`, `"from":"a"`, `"why":"b"`}
	version2 := []string{`"outOfSync":[{`, `\"outOfSync\":`, `"sender":"a"`, `"reason":"b"`}
	for version, want := range map[string][][]string{
		"1": {version1, version1},
		"2": {version1, version2}, // the first poll is for any parent
		"9": {version1, version2},
	} {
		var polls []string
		c := clientOf(t, parentOf(version, &polls, ""))
		for range 2 {
			if _, err := c.Poll(t.Context(), wire.PollRequest{Report: report}); err != nil {
				t.Fatal(err)
			}
		}
		for i, keys := range want {
			for _, key := range keys {
				if !strings.Contains(polls[i], key) {
					t.Errorf("poll %d of a parent of version %s lacks %s: %s", i, version, key, polls[i])
				}
			}
		}
	}
}

func TestPlanOfAParentOfVersion1IsRead(t *testing.T) {
	var polls []string
	c := clientOf(t, parentOf("1", &polls, `{"blob":{"repository":"a","digest":"`+string(someDigest)+`","size":9,`+
		`"ways":[{"kind":"whole"},{"kind":"batch"}]}}
{"told":{"repository":"a","digest":"`+string(someDigest)+`"}}
{"end":{"entries":2}}
`))
	var got []replication.PlanEntry
	err := c.Plan(t.Context(), nil, nil, func(e replication.PlanEntry) error {
		got = append(got, e)
		return nil
	})
	ref := replication.Ref{Repository: "a", Digest: someDigest}
	want := []replication.PlanEntry{
		{Blob: &replication.PlanBlob{Ref: ref, Size: 9, Batch: true}}, {Complete: &ref},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}
