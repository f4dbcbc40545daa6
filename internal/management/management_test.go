package management_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

func TestOnlyOperatorsManage(t *testing.T) {
	root := newRoot(t)
	root.scopeMap(t, "m", "repositories/*/content/write")
	password := root.token(t, "line1", "m")
	err := root.control.Change(t.Context(), func(tx *metadb.Tx) error {
		return tx.PutOperator(metadb.Operator{Name: "viewer", Role: "reader", PasswordHash: auth.HashOperatorPassword("look"), CreatedAt: start})
	})
	if err != nil {
		t.Fatal(err)
	}
	r := root.callAs(t, "", "", "GET", "/tokens", nil)
	r.fails(t, 401, "UNAUTHORIZED")
	if got := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Basic ") {
		t.Errorf("WWW-Authenticate %q", got)
	}
	root.callAs(t, "admin", "wrong", "GET", "/tokens", nil).fails(t, 401, "UNAUTHORIZED")
	root.callAs(t, "line1", password, "GET", "/tokens", nil).fails(t, 403, "DENIED", "operator")
	root.callAs(t, "viewer", "look", "GET", "/tokens", nil).ok(t, nil)
	root.callAs(t, "viewer", "look", "PUT", "/scope-maps/x", object{"actions": []string{"repositories/a/content/read"}}).fails(t, 403, "DENIED", "may only read")
	root.callAs(t, "viewer", "look", "POST", "/connected-registries/x/settings", object{"parentProtocol": "http"}).fails(t, 403, "DENIED")
	root.call(t, "PUT", "/scope-maps/x", object{"actions": []string{"repositories/a/content/read"}}, "Sec-Fetch-Site", "cross-site").fails(t, 403, "DENIED", "another site")
}

func TestWhoGuessesIsToldWhenToTryAgain(t *testing.T) {
	root := newRoot(t)
	var r response
	for range 20 {
		if r = root.callAs(t, "admin", "wrong", "GET", "/tokens", nil); r.status != 401 {
			break
		}
	}
	r.fails(t, 429, "TOO_MANY_REQUESTS", "too many failed logins")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestARequestThatIsNotUnderstoodIsAProblem(t *testing.T) {
	root := newRoot(t)
	for _, test := range []struct {
		name, method, path string
		body               any
		status             int
		code               string
	}{
		{"no such path", "GET", "/nosuch", nil, 404, "NOT_FOUND"},
		{"no such method", "POST", "/tokens", nil, 404, "NOT_FOUND"},
		{"no body", "PUT", "/scope-maps/m", nil, 400, "INVALID"},
		{"no JSON", "PUT", "/scope-maps/m", "{", 400, "INVALID"},
		{"another type", "PUT", "/scope-maps/m", `{"actions": "all"}`, 422, "INVALID"},
		{"null", "PUT", "/scope-maps/m", `{"actions": null}`, 422, "INVALID"},
		{"a body that is too large", "PUT", "/scope-maps/m", `{"description":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "TOO_LARGE"},
		{"an unknown field", "PUT", "/scope-maps/m", `{"actions":["repositories/a/content/read"],"scope":1}`, 422, "INVALID"},
		{"a JSON bomb", "PUT", "/scope-maps/m", strings.Repeat("[", 100_000), 400, "INVALID"},
		{"an n that is no number", "GET", "/repositories?n=many", nil, 422, "INVALID"},
		{"a repository that is not there", "GET", "/repositories/a/b", nil, 404, "NOT_FOUND"},
		{"a repository that cannot be", "DELETE", "/repositories/A", nil, 404, "NOT_FOUND"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.call(t, test.method, test.path, test.body).fails(t, test.status, test.code)
		})
	}
}

// broken is storage that cannot say what a repository is.
type broken struct {
	*storage.Storage
	err error
}

func (b broken) Repository(context.Context, string) (storage.Repository, error) {
	return storage.Repository{}, b.err
}

func TestAFullDiskIsAProblemWithAHint(t *testing.T) {
	root := newRoot(t)
	raw, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	_, fullDatabase := raw.Exec(`PRAGMA max_page_count = 1; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(1000000))`)
	for name, err := range map[string]error{
		"the database's": fmt.Errorf("commit transaction: %w", fullDatabase),
		"the content's":  fmt.Errorf("%w: %w", oci.ErrNoSpace, syscall.ENOSPC),
	} {
		srv := httptest.NewServer(management.NewHandler(management.Options{
			Control: root.control, Fleet: root.Service, Authenticator: root.auth, Repositories: broken{root.storage, err},
		}))
		full := &instance{url: srv.URL, password: root.password}
		r := full.call(t, "GET", "/repositories/a", nil)
		srv.Close()
		r.fails(t, 507, "NO_SPACE", "no space left", `"hint"`)
		if strings.Contains(r.text, "commit") {
			t.Errorf("%s: it tells of its inside: %s", name, r.text)
		}
	}
}

func TestTheOpenAPIDocumentNamesEveryOperation(t *testing.T) {
	root := newRoot(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	root.call(t, "GET", "/openapi.json", nil).ok(t, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	operations := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations++
			text, _ := json.Marshal(op.Responses["default"])
			if op.OperationID == "" || !strings.Contains(string(text), "schemas/Problem") {
				t.Errorf("%s %s: %s", method, path, text)
			}
		}
	}
	if operations != 31 || doc.Components.Schemas["ConnectedRegistry"] == nil {
		t.Errorf("%d operations, schemas %v", operations, doc.Components.Schemas)
	}
}

func TestRepositoriesAreListedShownAndDeleted(t *testing.T) {
	root := newRoot(t)
	for _, name := range []string{"a", "team/app", "z"} {
		if err := root.db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.TouchRepository(name, start) }); err != nil {
			t.Fatal(err)
		}
	}
	var page struct {
		Value    []api.Repository
		NextLink string
	}
	root.call(t, "GET", "/repositories?n=2", nil).ok(t, &page)
	if len(page.Value) != 2 || page.Value[1].Name != "team/app" || page.NextLink != "/api/v1/repositories?last=team%2Fapp&n=2" {
		t.Errorf("%+v", page)
	}
	page.NextLink = ""
	root.call(t, "GET", "/repositories?last=team%2Fapp&n=2", nil).ok(t, &page)
	if len(page.Value) != 1 || page.Value[0].Name != "z" || page.NextLink != "" {
		t.Errorf("%+v", page)
	}
	var r api.Repository
	for _, path := range []string{"/repositories/team/app", "/repositories/team%2Fapp"} {
		root.call(t, "GET", path, nil).ok(t, &r)
		if r.Name != "team/app" || *r.TagCount != 0 || !r.CreatedTime.Equal(start) {
			t.Errorf("%+v", r)
		}
	}
	root.call(t, "DELETE", "/repositories/team/app", nil).ok(t, nil)
	root.call(t, "DELETE", "/repositories/team/app", nil).fails(t, 404, "NOT_FOUND")
}

func TestEveryWriteIsAudited(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.scopeMap(t, "m", "repositories/a/content/read")
		root.token(t, "line1", "m")
		root.connect(t, "Ship01", "", "a")
		root.call(t, "PATCH", "/scope-maps/nosuch", object{"description": "x"}).fails(t, 404, "NOT_FOUND")
		root.call(t, "DELETE", "/connected-registries/Ship01", nil).ok(t, nil)
		var entries []metadb.AuditEntry
		err := root.db.View(t.Context(), func(tx *metadb.Tx) (err error) {
			entries, err = tx.Audit(1<<62, 100)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Actor+" "+e.Source+" "+e.Action+" "+e.Object)
		}
		want := []string{
			"admin 127.0.0.1 delete connected-registries/Ship01", "admin 127.0.0.1 create connected-registries/Ship01",
			"admin 127.0.0.1 write tokens/line1", "admin 127.0.0.1 write scope-maps/m", "first start  create operators/admin",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s", strings.Join(got, "\n"))
		}
	})
}

func TestNoSecretIsWrittenDown(t *testing.T) {
	root := newRoot(t)
	root.scopeMap(t, "m", "repositories/a/content/read")
	root.connect(t, "Ship01", "", "a")
	const guess = "guessed-wrong"
	token, sync := root.token(t, "line1", "m"), root.syncPassword(t, "Ship01")
	var shown strings.Builder
	for _, r := range []response{
		root.callAs(t, "line1", token, "GET", "/tokens", nil),
		root.callAs(t, "admin", guess, "GET", "/tokens", nil),
		root.call(t, "GET", "/tokens", nil),
		root.call(t, "GET", "/tokens/line1", nil),
		root.call(t, "PATCH", "/tokens/line1", object{"status": "disabled"}),
		root.call(t, "PUT", "/tokens/line1", `{"scopeMap":"m","password":"`+token+`"}`),
		root.call(t, "PUT", "/tokens/line1", `{"scopeMap":"m","passwords":"`+token+`"}`),
		root.call(t, "PUT", "/tokens/line1", `{"scopeMap":"m","passwords":["`+token),
		root.call(t, "GET", "/connected-registries/Ship01", nil),
		root.call(t, "POST", "/connected-registries/Ship01/settings", object{"parentProtocol": "http"}),
		root.call(t, "GET", "/status", nil),
	} {
		shown.WriteString(r.text)
	}
	d, err := root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	err = root.db.View(t.Context(), func(tx *metadb.Tx) error {
		entries, err := tx.Audit(1<<62, 100)
		fmt.Fprintf(&shown, "%s %+v", text, entries)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{root.password, token, sync, guess} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%.9s... is in an answer, or in the audit log", secret)
		}
		if strings.Contains(root.log.String(), secret) {
			t.Errorf("%.9s... is in the log", secret)
		}
	}
}

// newSite returns a connected registry of root that was told what to be.
func newSite(t *testing.T, root *instance) *instance {
	t.Helper()
	root.connect(t, "Ship01", "", "a")
	d, err := root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	site := newInstance(t, dbtest.SQLite(t), "Ship01")
	if err := site.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return site
}

func TestAConnectedRegistryRefusesToWriteWhatItsParentOwns(t *testing.T) {
	site := newSite(t, newRoot(t))
	before := site.call(t, "GET", "/connected-registries/Ship01", nil).ok(t, nil).text
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{"PUT", "/scope-maps/m", object{"actions": []string{"repositories/a/content/read"}}},
		{"DELETE", "/scope-maps/Ship01", nil},
		{"PUT", "/tokens/line1", object{"scopeMap": "m"}},
		{"POST", "/tokens/line1/credentials", object{"passwords": []string{"password1"}}},
		{"PUT", "/connected-registries/Other1", object{"repositories": []string{"a"}}},
		{"PATCH", "/connected-registries/Ship01", object{"gcEnabled": false}},
		{"POST", "/connected-registries/Ship01/deactivate", nil},
		{"POST", "/connected-registries/Ship01/settings", object{"parentProtocol": "http", "generatePassword": 1}},
		{"DELETE", "/connected-registries/Ship01", nil},
	} {
		site.call(t, call.method, call.path, call.body).fails(t, 403, "MANAGED_BY_PARENT", "is managed by the parent registry", "root registry")
	}
	site.call(t, "DELETE", "/repositories/a", nil).fails(t, 403, "MANAGED_BY_PARENT", "This operation is not allowed on this registry.")
	if after := site.call(t, "GET", "/connected-registries/Ship01", nil).ok(t, nil).text; after != before {
		t.Errorf("%s\n%s", before, after)
	}
}

func TestTheStatusSaysWhatAnInstanceIs(t *testing.T) {
	root := newRoot(t)
	var v api.InstanceStatus
	root.call(t, "GET", "/status", nil).ok(t, &v)
	if v.Role != "root" || v.Version != "v1.2.3" || v.InstanceID != root.control.InstanceID() || v.Sync != nil {
		t.Errorf("%+v", v)
	}
	site := newSite(t, root)
	site.status = &wire.Status{Name: "Ship01", State: "Syncing", At: start, ItemsPending: 3, SyncState: "Syncing"}
	site.call(t, "GET", "/status", nil).ok(t, &v)
	if v.Role != "connected" || v.Name != "Ship01" || v.Sync.ItemsPending != 3 || v.Sync.State != "Syncing" {
		t.Errorf("%+v", v)
	}
	if r := site.show(t, "Ship01"); r.ConnectionState != "Syncing" || r.Activation.Status != "Active" {
		t.Errorf("%+v", r)
	}
}

func TestAHeadIsAnsweredAsAGet(t *testing.T) {
	root := newRoot(t)
	if r := root.call(t, http.MethodHead, "/tokens", nil); r.status != 200 {
		t.Errorf("status %d", r.status)
	}
}
