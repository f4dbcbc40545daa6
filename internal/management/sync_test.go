package management_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/credential"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// A recordingSyncer records the commands that it receives.
type recordingSyncer struct {
	given  []string
	status *wire.Status
	state  credential.State // of given credentials

	inFlight []wire.OutOfSyncItem
}

func (o *recordingSyncer) InFlight(context.Context) ([]wire.OutOfSyncItem, error) {
	return o.inFlight, nil
}
func (o *recordingSyncer) Resolve(
	_ context.Context, q api.SyncResolvePost, _ storage.Note,
) (api.SyncResolved, error) {
	o.given = append(o.given, "resolve "+q.Repository+" "+q.Item)
	return api.SyncResolved{Conflicts: 1}, nil
}
func (o *recordingSyncer) SyncNow(context.Context) { o.given = append(o.given, "now") }
func (o *recordingSyncer) Pause(context.Context) {
	o.given, o.status.Paused = append(o.given, "pause"), true
}
func (o *recordingSyncer) Resume(context.Context) {
	o.given, o.status.Paused = append(o.given, "resume"), false
}

func (o *recordingSyncer) Connection() wire.ConnectionString {
	return wire.ConnectionString{Name: "ship1", Token: "ship1", Password: "old", Protocol: "http", Endpoint: "root"}
}
func (o *recordingSyncer) SetConnection(_ context.Context, c wire.ConnectionString) credential.State {
	o.given = append(o.given, c.Secret())
	return o.state
}

// newSyncing returns a connected registry with a recordingSyncer.
func newSyncing(t *testing.T, db *metadb.DB) (*fleettest.Instance, *recordingSyncer) {
	t.Helper()
	child := fleettest.New(t, db, "ship1")
	child.Status = &wire.Status{Name: "ship1", State: "Online", At: start, SyncState: "Succeeded",
		LastSyncSuccess: start, ItemsSynced: 2,
		Watermarks: map[string]int64{"feed": 1}}
	o := &recordingSyncer{status: child.Status}
	child.Serve(t, management.Options{Syncer: o})
	return child, o
}

func TestSyncCommandsOfOperatorsAreAudited(t *testing.T) {
	child, o := newSyncing(t, dbtest.SQLite(t))
	var v api.SyncStatus
	child.Call(t, "POST", "/sync/now", nil).OK(t, &v)
	if !v.InSync || v.Paused {
		t.Errorf("%+v", v)
	}
	child.Call(t, "POST", "/sync/pause", nil).OK(t, &v)
	if !v.Paused {
		t.Errorf("%+v", v)
	}
	child.Call(t, "POST", "/sync/now", nil).Fails(t, 409, "CONFLICT", "paused", "ferry sync resume")
	child.Call(t, "POST", "/sync/resume", nil).OK(t, &v)
	if diff := cmp.Diff([]string{"now", "pause", "resume"}, o.given); diff != "" {
		t.Error(diff)
	}
	child.CallAs(t, "", "", "POST", "/sync/now", nil).Fails(t, 401, "UNAUTHORIZED")
	var log []string
	err := child.DB.View(t.Context(), func(tx *metadb.Tx) error {
		entries, err := tx.Audit(metadb.AuditQuery{Limit: 10})
		for _, e := range entries {
			log = append(log, e.Actor+" "+e.Action+" "+e.Object)
		}
		return err
	})
	if err != nil || len(log) != 4 || !strings.Contains(strings.Join(log, ","), "admin pause sync") {
		t.Errorf("audit log %q, %v", log, err)
	}
}

func TestRootHasNoSync(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.Call(t, "GET", "/sync", nil).Fails(t, 404, "NOT_FOUND", "root registry",
		"ferry connected-registry sync-status")
	root.Call(t, "GET", "/sync/items", nil).Fails(t, 404, "NOT_FOUND")
	root.Call(t, "POST", "/sync/pause", nil).Fails(t, 404, "NOT_FOUND")
}

func TestSyncShowsTheTimeLeft(t *testing.T) {
	child, _ := newSyncing(t, dbtest.SQLite(t))
	child.Status.State, child.Status.SyncState, child.Status.ItemsPending = "Syncing", "Syncing", 1
	child.Status.BytesTotal, child.Status.BytesDone, child.Status.BytesPerSecond = 1000, 400, 100
	var v api.SyncStatus
	child.Call(t, "GET", "/sync", nil).OK(t, &v)
	if v.InSync || v.EtaSeconds == nil || *v.EtaSeconds != 6 {
		t.Errorf("%+v", v)
	}
	child.Status.BytesPerSecond = 0
	v = api.SyncStatus{}
	child.Call(t, "GET", "/sync", nil).OK(t, &v)
	if v.EtaSeconds != nil {
		t.Errorf("%d s left without a rate", *v.EtaSeconds)
	}
}

func TestSyncItemsShowBothDigests(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		child, o := newSyncing(t, db)
		payload := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
		m, err := child.Storage.PutManifest(t.Context(),
			storage.Put{Repository: "app/a", Tags: []string{"v1", "v2"},
				Payload: []byte(payload)})
		if err != nil {
			t.Fatal(err)
		}
		here, other := string(m.Digest), "sha256:"+strings.Repeat("0", 64)
		err = db.Update(t.Context(), func(tx *metadb.Tx) error {
			for _, i := range []metadb.SyncItem{
				{Repository: "app/a", Item: "v1", Tag: "v1", Digest: here, State: "synced", SyncedAt: start,
					ChangedAt: start},
				{Repository: "app/a", Item: "v2", Tag: "v2", Digest: other, State: "failed", Error: "no such blob",
					SyncedAt: start, ChangedAt: start},
				{Repository: "app/a", Item: "v3", Tag: "v3", State: "pending", ChangedAt: start},
				{Repository: "app/b", Item: other, Digest: other, State: "pending", ChangedAt: start},
			} {
				if err := tx.PutSyncItem(i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		line := func(i api.SyncItem) string {
			s := func(p *string) string {
				switch {
				case p == nil:
					return "-"
				case *p == here:
					return "HERE"
				case *p == other:
					return "OTHER"
				}
				return *p
			}
			text := strings.Join([]string{i.Repository, s(i.Tag), i.State, s(i.Digest), s(i.ParentDigest), s(i.Error)},
				" ")
			if i.BytesTotal != nil {
				text += fmt.Sprintf(" %d of %d, %d/s, %d s", *i.BytesDone, *i.BytesTotal, *i.BytesPerSecond,
					*i.EtaSeconds)
			}
			return text
		}
		o.inFlight = []wire.OutOfSyncItem{
			{Repository: "app/b", Digest: digest.Digest(other), BytesTotal: 10, BytesDone: 4, BytesPerSecond: 2,
				SecondsLeft: 3},
			{Repository: "app/a", Tag: "v2", Digest: digest.Digest(other), BytesTotal: 100, BytesDone: 50,
				BytesPerSecond: 5, SecondsLeft: 13},
		}
		for _, test := range []struct {
			name, path string
			want       []string
		}{
			{"all", "/sync/items?n=1", []string{
				"app/a v1 InSync HERE HERE -", "app/a v2 Failed HERE OTHER no such blob 50 of 100, 5/s, 13 s",
				"app/a v3 ToRemove - - -",
				"app/b - Pending - OTHER - 4 of 10, 2/s, 3 s",
			}},
			{"out of sync", "/sync/items?n=2&open=true", []string{
				"app/a v2 Failed HERE OTHER no such blob 50 of 100, 5/s, 13 s", "app/a v3 ToRemove - - -",
				"app/b - Pending - OTHER - 4 of 10, 2/s, 3 s",
			}},
			{"in flight", "/sync/items?inFlight=true", []string{
				"app/b - Pending - OTHER - 4 of 10, 2/s, 3 s", "app/a v2 Pending - OTHER - 50 of 100, 5/s, 13 s",
			}},
		} {
			t.Run(test.name, func(t *testing.T) {
				var got []string
				for path := test.path; path != ""; {
					var page struct {
						Value    []api.SyncItem
						NextLink string
					}
					child.Call(t, "GET", path, nil).OK(t, &page)
					for _, i := range page.Value {
						got = append(got, line(i))
					}
					path = strings.TrimPrefix(page.NextLink, "/api/v1")
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	})
}

func TestOperatorGivesARegistryOtherCredentials(t *testing.T) {
	child, o := newSyncing(t, dbtest.SQLite(t))
	give := func(text string) fleettest.Response {
		t.Helper()
		return child.Call(t, "PUT", "/sync/credentials", object{"credentials": text})
	}
	var v api.CredentialsResult
	o.state = credential.Accepted
	give("ferry_new\n").OK(t, &v)
	const whole = "ConnectedRegistryName=ship1;SyncTokenName=ship1;JoinToken=s3cr3t;ParentGatewayEndpoint=a,b;" +
		"ParentEndpointProtocol=https"
	give(" "+whole+"\r\n").OK(t, &v)
	want := []string{"ConnectedRegistryName=ship1;SyncTokenName=ship1;SyncTokenPassword=ferry_new;" +
		"ParentGatewayEndpoint=root;ParentEndpointProtocol=http", whole}
	if diff := cmp.Diff(want, o.given); diff != "" || v.State != "Accepted" {
		t.Errorf("%s %+v", diff, v)
	}
	for _, text := range []string{strings.Replace(whole, "=ship1", "=ship2", 1), "a=s3cr3t;b",
		"<use --generate-password to generate a new password>"} {
		r := give(text)
		r.Fails(t, 400, "INVALID")
		if strings.Contains(r.Text, "s3cr3t") {
			t.Errorf("the answer has the secret: %s", r.Text)
		}
	}
	fleettest.NewRoot(t).Call(t, "PUT", "/sync/credentials", object{"credentials": "a"}).Fails(t, 404, "NOT_FOUND",
		"root registry")
	o.state = credential.Refused
	give("ferry_mistyped").OK(t, &v)
	var log struct{ Value []api.AuditEntry }
	child.Call(t, "GET", "/audit-log", nil).OK(t, &log)
	var details []string
	for _, e := range log.Value {
		if e.Action == "set-credentials" && e.Object == "sync" {
			details = append(details, e.Detail)
		}
	}
	const asked, accepted, refused = "the parent is asked", "the parent accepts them", "the parent refuses them"
	if diff := cmp.Diff([]string{refused, asked, accepted, asked, accepted, asked}, details); diff != "" {
		t.Errorf("the audit log, newest first: %s", diff)
	}
}
