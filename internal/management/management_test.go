package management_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/management"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

func TestOnlyOperatorsManage(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/*/content/write")
	password := root.PutToken(t, "line1", "m")
	err := root.Control.Change(t.Context(), func(tx *metadb.Tx) error {
		return tx.PutOperator(metadb.Operator{Name: "viewer", Role: "reader",
			PasswordHash: fleettest.HashPassword("look"), CreatedAt: start})
	})
	if err != nil {
		t.Fatal(err)
	}
	r := root.CallAs(t, "", "", "GET", "/tokens", nil)
	r.Fails(t, 401, "UNAUTHORIZED")
	if got := r.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Basic ") {
		t.Errorf("WWW-Authenticate %q", got)
	}
	root.CallAs(t, "admin", "wrong", "GET", "/tokens", nil).Fails(t, 401, "UNAUTHORIZED")
	root.CallAs(t, "line1", password, "GET", "/tokens", nil).Fails(t, 403, "DENIED", "operator")
	root.CallAs(t, "viewer", "look", "GET", "/tokens", nil).OK(t, nil)
	root.CallAs(t, "viewer", "look", "PUT", "/scope-maps/x",
		object{"actions": []string{"repositories/a/content/read"}}).Fails(t, 403, "DENIED", "may only read")
	root.CallAs(t, "viewer", "look", "POST", "/connected-registries/x/settings",
		object{"parentProtocol": "http"}).Fails(t, 403, "DENIED")
	root.Call(t, "PUT", "/scope-maps/x", object{"actions": []string{"repositories/a/content/read"}}, "Sec-Fetch-Site",
		"cross-site").Fails(t, 403, "DENIED", "another site")
}

func TestOnlyRequestsOfOperatorsArePassedOn(t *testing.T) {
	root := fleettest.NewRoot(t)
	var passed []string
	root.Serve(t, management.Options{Pass: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed = append(passed, r.URL.Path)
			next.ServeHTTP(w, r)
		})
	}})
	root.CallAs(t, "", "", "GET", "/tokens", nil).Fails(t, 401, "UNAUTHORIZED")
	root.CallAs(t, "admin", "wrong", "GET", "/tokens", nil).Fails(t, 401, "UNAUTHORIZED")
	root.Call(t, "GET", "/tokens", nil).OK(t, nil)
	if want := []string{"/api/v1/tokens"}; !slices.Equal(passed, want) {
		t.Errorf("passed on: %q, want %q", passed, want)
	}
}

func TestPasswordGuessesAreAnsweredWithRetryAfter(t *testing.T) {
	root := fleettest.NewRoot(t)
	var r fleettest.Response
	for range 20 {
		if r = root.CallAs(t, "admin", "wrong", "GET", "/tokens", nil); r.Status != 401 {
			break
		}
	}
	r.Fails(t, 429, "TOO_MANY_REQUESTS", "too many failed logins")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestInvalidRequestsAreAnsweredWithProblems(t *testing.T) {
	root := fleettest.NewRoot(t)
	for _, test := range []struct {
		name, method, path string
		body               any
		status             int
		code               string
	}{
		{"no such path", "GET", "/nosuch", nil, 404, "NOT_FOUND"},
		{"no such method", "POST", "/tokens", nil, 404, "NOT_FOUND"},
		{"no body", "PUT", "/scope-maps/m", nil, 400, "INVALID"},
		{"invalid JSON", "PUT", "/scope-maps/m", "{", 400, "INVALID"},
		{"another type", "PUT", "/scope-maps/m", `{"actions": "all"}`, 422, "INVALID"},
		{"null", "PUT", "/scope-maps/m", `{"actions": null}`, 422, "INVALID"},
		{"a body that is too large", "PUT", "/scope-maps/m", `{"description":"` + strings.Repeat("x", 2<<20) + `"}`,
			413, "TOO_LARGE"},
		{"an unknown field", "PUT", "/scope-maps/m", `{"actions":["repositories/a/content/read"],"scope":1}`, 422,
			"INVALID"},
		{"a JSON bomb", "PUT", "/scope-maps/m", strings.Repeat("[", 100_000), 400, "INVALID"},
		{"an n that is not a number", "GET", "/repositories?n=many", nil, 422, "INVALID"},
		{"a repository that does not exist", "GET", "/repositories/a/b", nil, 404, "NOT_FOUND"},
		{"an invalid repository name", "DELETE", "/repositories/A", nil, 404, "NOT_FOUND"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.Call(t, test.method, test.path, test.body).Fails(t, test.status, test.code)
		})
	}
}

// broken is storage whose reads of a repository fail.
type broken struct {
	*storage.Storage
	err error
}

func (b broken) Repository(context.Context, string) (storage.Repository, error) {
	return storage.Repository{}, b.err
}

func TestFullDiskIsAProblemWithAHint(t *testing.T) {
	root := fleettest.NewRoot(t)
	raw, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	_, fullDatabase := raw.Exec(`PRAGMA max_page_count = 1;
		CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(1000000))`)
	for name, err := range map[string]error{
		"the database": fmt.Errorf("commit transaction: %w", fullDatabase),
		"the content":  fmt.Errorf("%w: %w", oci.ErrNoSpace, syscall.ENOSPC),
	} {
		root.Serve(t, management.Options{Repositories: broken{root.Storage, err}})
		r := root.Call(t, "GET", "/repositories/a", nil)
		r.Fails(t, 507, "NO_SPACE", "no space left", `"hint"`)
		if strings.Contains(r.Text, "commit") {
			t.Errorf("%s: the answer has internal details: %s", name, r.Text)
		}
	}
}

func TestOpenAPIDocumentDescribesItsSchemas(t *testing.T) {
	root := fleettest.NewRoot(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Description string
					Enum        []any
				}
			}
		}
	}
	root.Call(t, "GET", "/openapi.json", nil).OK(t, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			text, _ := json.Marshal(op.Responses["default"])
			if op.OperationID == "" || !strings.Contains(string(text), "schemas/Problem") {
				t.Errorf("%s %s: %s", method, path, text)
			}
		}
	}
	put := doc.Components.Schemas["RegistryPut"].Properties
	if filters := put["tagFilters"].Description; !strings.Contains(filters, "regular expression") {
		t.Errorf("tagFilters is described as %q", filters)
	}
	if codes := doc.Components.Schemas["Problem"].Properties["code"].Enum; len(codes) != 12 {
		t.Errorf("the codes of a problem are %q", codes)
	}
}

func TestRepositoriesAreListedShownAndDeleted(t *testing.T) {
	root := fleettest.NewRoot(t)
	for _, name := range []string{"a", "team/app", "z"} {
		if err := root.DB.Update(t.Context(),
			func(tx *metadb.Tx) error { return tx.TouchRepository(name, start) }); err != nil {
			t.Fatal(err)
		}
	}
	var page struct {
		Value    []api.Repository
		NextLink string
	}
	root.Call(t, "GET", "/repositories?n=2", nil).OK(t, &page)
	if len(page.Value) != 2 || page.Value[1].Name != "team/app" ||
		page.NextLink != "/api/v1/repositories?last=team%2Fapp&n=2" {
		t.Errorf("%+v", page)
	}
	page.NextLink = ""
	root.Call(t, "GET", "/repositories?last=team%2Fapp&n=2", nil).OK(t, &page)
	if len(page.Value) != 1 || page.Value[0].Name != "z" || page.NextLink != "" {
		t.Errorf("%+v", page)
	}
	var r api.Repository
	for _, path := range []string{"/repositories/team/app", "/repositories/team%2Fapp"} {
		root.Call(t, "GET", path, nil).OK(t, &r)
		if r.Name != "team/app" || *r.TagCount != 0 || !r.CreatedTime.Equal(start) {
			t.Errorf("%+v", r)
		}
	}
	root.Call(t, "DELETE", "/repositories/team/app", nil).OK(t, nil)
	root.Call(t, "DELETE", "/repositories/team/app", nil).Fails(t, 404, "NOT_FOUND")
}

func TestEveryWriteIsAudited(t *testing.T) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) {
		root.PutScopeMap(t, "m", "repositories/a/content/read")
		root.PutToken(t, "line1", "m")
		root.Connect(t, "Ship01", "", "a")
		root.Call(t, "PATCH", "/scope-maps/nosuch", object{"description": "x"}).Fails(t, 404, "NOT_FOUND")
		root.Call(t, "DELETE", "/connected-registries/Ship01", nil).OK(t, nil)
		var entries []metadb.AuditEntry
		err := root.DB.View(t.Context(), func(tx *metadb.Tx) (err error) {
			entries, err = tx.Audit(metadb.AuditQuery{Limit: 100})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Actor+" "+e.Sender+" "+e.Action+" "+e.Object)
		}
		want := []string{
			"admin 127.0.0.1 delete connected-registries/Ship01", "admin 127.0.0.1 create connected-registries/Ship01",
			"admin 127.0.0.1 write tokens/line1", "admin 127.0.0.1 write scope-maps/m",
			"first start  create operators/admin",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s", strings.Join(got, "\n"))
		}
	})
}

func TestSecretsAreNeverLoggedOrShown(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	root.Connect(t, "Ship01", "", "a")
	const guess = "guessed-wrong"
	token, sync := root.PutToken(t, "line1", "m"), root.SyncPassword(t, "Ship01")
	var shown strings.Builder
	for _, r := range []fleettest.Response{
		root.CallAs(t, "line1", token, "GET", "/tokens", nil),
		root.CallAs(t, "admin", guess, "GET", "/tokens", nil),
		root.Call(t, "GET", "/tokens", nil),
		root.Call(t, "GET", "/tokens/line1", nil),
		root.Call(t, "PATCH", "/tokens/line1", object{"status": "disabled"}),
		root.Call(t, "PUT", "/tokens/line1", `{"scopeMap":"m","password":"`+token+`"}`),
		root.Call(t, "PUT", "/tokens/line1", `{"scopeMap":"m","passwords":"`+token+`"}`),
		root.Call(t, "PUT", "/tokens/line1", `{"scopeMap":"m","passwords":["`+token),
		root.Call(t, "GET", "/connected-registries/Ship01", nil),
		root.Call(t, "POST", "/connected-registries/Ship01/settings", object{"parentProtocol": "http"}),
		root.Call(t, "GET", "/status", nil),
	} {
		shown.WriteString(r.Text)
	}
	d, err := root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	err = root.DB.View(t.Context(), func(tx *metadb.Tx) error {
		entries, err := tx.Audit(metadb.AuditQuery{Limit: 100})
		fmt.Fprintf(&shown, "%s %+v", text, entries)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{root.Password, token, sync, guess} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%.9s... is in an answer, or in the audit log", secret)
		}
		if strings.Contains(root.Log.String(), secret) {
			t.Errorf("%.9s... is in the log", secret)
		}
	}
}

// newChild returns a connected registry of root that has received its desired state.
func newChild(t *testing.T, root *fleettest.Instance) *fleettest.Instance {
	t.Helper()
	root.Connect(t, "Ship01", "", "a")
	d, err := root.Desired(t.Context(), "Ship01")
	if err != nil {
		t.Fatal(err)
	}
	child := fleettest.New(t, dbtest.SQLite(t), "Ship01")
	if err := child.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return child
}

func TestResourcesOfTheParentAreReadOnly(t *testing.T) {
	child := newChild(t, fleettest.NewRoot(t))
	before := child.Call(t, "GET", "/connected-registries/Ship01", nil).OK(t, nil).Text
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
		child.Call(t, call.method, call.path, call.body).Fails(t, 403, "MANAGED_BY_PARENT",
			"is managed by the parent registry", "root registry")
	}
	child.Call(t, "DELETE", "/repositories/a", nil).Fails(t, 403, "MANAGED_BY_PARENT",
		"This operation is not allowed on this registry.")
	if after := child.Call(t, "GET", "/connected-registries/Ship01", nil).OK(t, nil).Text; after != before {
		t.Errorf("%s\n%s", before, after)
	}
}

func TestStatusShowsTheRoleOfAnInstance(t *testing.T) {
	root := fleettest.NewRoot(t)
	var v api.InstanceStatus
	root.Call(t, "GET", "/status", nil).OK(t, &v)
	if v.Role != "root" || v.Version != "v1.2.3" || v.InstanceID != root.Control.InstanceID() || v.Sync != nil {
		t.Errorf("%+v", v)
	}
	child := newChild(t, root)
	child.Status = &wire.Status{Name: "Ship01", State: "Syncing", At: start, ItemsPending: 3, SyncState: "Syncing"}
	child.Call(t, "GET", "/status", nil).OK(t, &v)
	if v.Role != "connected" || v.Name != "Ship01" || v.Sync.ItemsPending != 3 || v.Sync.State != "Syncing" {
		t.Errorf("%+v", v)
	}
	if r := child.Show(t, "Ship01"); r.ConnectionState != "Syncing" || r.Activation.Status != "Active" {
		t.Errorf("%+v", r)
	}
}

func TestHeadIsAnsweredLikeGet(t *testing.T) {
	root := fleettest.NewRoot(t)
	if r := root.Call(t, http.MethodHead, "/tokens", nil); r.Status != 200 {
		t.Errorf("status %d", r.Status)
	}
}
