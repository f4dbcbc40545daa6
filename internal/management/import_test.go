package management_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/mirror"
	"ferry/internal/replication"
)

// A runner records the requested imports.
type runner struct {
	management.Mirrors // the other methods are not called here

	imports   []mirror.ImportRequest
	cancelled []string
	refuse    error
}

func (r *runner) Import(_ context.Context, q mirror.ImportRequest) (mirror.Import, error) {
	r.imports = append(r.imports, q)
	return mirror.Import{ID: "abc", Source: q.Source, Targets: q.Images, State: mirror.ImportPending,
		StartedAt: start}, r.refuse
}

func (r *runner) Imports(context.Context) ([]mirror.Import, error) {
	return []mirror.Import{
		{ID: "abd", State: mirror.ImportFailed, StartedAt: start, EndedAt: start,
			ImportStatus: mirror.ImportStatus{Problem: "x509", Hint: "--ca-file FILE"}},
		{ID: "abc", State: mirror.ImportRunning, StartedAt: start, ImportStatus: mirror.ImportStatus{
			BytesPerSecond: 10, Progress: replication.Progress{BytesTotal: 100, BytesDone: 45}}},
	}, nil
}

func (r *runner) ImportOf(_ context.Context, id string) (mirror.Import, error) {
	if id != "abc" {
		return mirror.Import{}, mirror.ErrNoImport
	}
	return mirror.Import{ID: id, State: mirror.ImportRunning, StartedAt: start}, nil
}

func (r *runner) CancelImport(_ context.Context, id, actor, sender string) (mirror.Import, error) {
	r.cancelled = append(r.cancelled, id+" by "+actor+" at "+sender)
	return mirror.Import{ID: id, State: mirror.ImportCancelled, StartedAt: start, EndedAt: start}, r.refuse
}

// newMirroring returns a root whose imports r runs.
func newMirroring(t *testing.T, db *metadb.DB) (*fleettest.Instance, *runner) {
	t.Helper()
	root, r := fleettest.New(t, db, ""), &runner{}
	root.Serve(t, management.Options{Mirrors: r})
	return root, r
}

func TestImportsStartForTheirOperator(t *testing.T) {
	root, r := newMirroring(t, dbtest.SQLite(t))
	var v api.Import
	root.Call(t, "POST", "/imports",
		object{"source": "ghcr.io/acme/app:1", "images": []string{"app:1"}, "force": true, "username": "bot",
			"password": "hush"}).OK(t, &v)
	want := mirror.ImportRequest{Source: "ghcr.io/acme/app:1", Images: []string{"app:1"}, Force: true, Username: "bot",
		Password: "hush", Actor: "admin", Sender: "127.0.0.1"}
	if diff := cmp.Diff([]mirror.ImportRequest{want}, r.imports); diff != "" || v.Name != "abc" ||
		v.State != "Pending" {
		t.Errorf("%+v %s", v, diff)
	}
	root.Call(t, "GET", "/imports/abc", nil).OK(t, &v)
	root.Call(t, "GET", "/imports/abd", nil).Fails(t, 404, "NOT_FOUND", "ferry import list")
	r.refuse = fmt.Errorf("app:1: %w", mirror.ErrExists)
	root.Call(t, "POST", "/imports", object{"source": "ghcr.io/acme/app:1"}).Fails(t, 409, "CONFLICT", "--force")
	r.refuse = fmt.Errorf("import abc: %w", mirror.ErrDiffers)
	root.Call(t, "POST", "/imports", object{"source": "ghcr.io/acme/app:1"}).Fails(t, 409, "CONFLICT",
		"ferry import list")
	r.refuse = mirror.ErrBusy
	root.Call(t, "POST", "/imports", object{"source": "ghcr.io/acme/app:1"}).Fails(t, 429, "TOO_MANY_REQUESTS")
}

func TestImportsAreCancelledByTheirName(t *testing.T) {
	root, r := newMirroring(t, dbtest.SQLite(t))
	var v api.Import
	root.Call(t, "POST", "/imports/abc/cancel", nil).OK(t, &v)
	if diff := cmp.Diff([]string{"abc by admin at 127.0.0.1"}, r.cancelled); diff != "" || v.State != "Cancelled" {
		t.Errorf("%+v %s", v, diff)
	}
	root.Call(t, "POST", "/imports/abd/cancel", nil).Fails(t, 404, "NOT_FOUND", "ferry import list")
	r.refuse = fmt.Errorf("import abc: %w: Succeeded", mirror.ErrEnded)
	root.Call(t, "POST", "/imports/abc/cancel", nil).Fails(t, 409, "CONFLICT", "ferry import show")
}

func TestImportsAreListedWithTheirProgress(t *testing.T) {
	root, _ := newMirroring(t, dbtest.SQLite(t))
	var all struct{ Value []api.Import }
	root.Call(t, "GET", "/imports", nil).OK(t, &all)
	if len(all.Value) != 2 {
		t.Fatalf("%+v", all)
	}
	if v := all.Value[0]; v.Name != "abd" || *v.Error != "x509" || *v.Hint != "--ca-file FILE" || v.EtaSeconds != nil {
		t.Errorf("%+v", v)
	}
	if v := all.Value[1]; v.Name != "abc" || v.BytesDone != 45 || v.BytesPerSecond != 10 || *v.EtaSeconds != 6 ||
		v.Hint != nil {
		t.Errorf("%+v", v)
	}
}

func TestConnectedRegistryHasNoMirrorRules(t *testing.T) {
	child := fleettest.New(t, dbtest.SQLite(t), "ship1")
	child.Call(t, "GET", "/mirror-rules", nil).Fails(t, 404, "NOT_FOUND", "gets content only from its parent")
	child.Call(t, "POST", "/imports", object{"source": "ghcr.io/a:1"}).Fails(t, 404, "NOT_FOUND",
		"at the root registry")
}
