package cli_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const openAPIFile = "../../docs/openapi.json"

// An openAPI is an OpenAPI document, as far as these tests read it.
type openAPI struct {
	OpenAPI string
	Paths   map[string]map[string]*operation
}

// An operation is an operation of the management API.
type operation struct {
	OperationID, Summary string
	Parameters           []struct {
		Name, In, Description string
		Example               string
		Required              bool
	}
	RequestBody *struct {
		Content map[string]struct{ Example any }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema any }
	}

	method, path string
}

// A managed is a root with one connected registry, and resources with the names of the examples
// in the document.
type managed struct {
	root, child *instance
	text        []byte // the document of the root
	doc         openAPI
	schemas     *jsonschema.Compiler
}

func startManaged(t *testing.T) *managed {
	t.Helper()
	m := &managed{schemas: jsonschema.NewCompiler()}
	m.root = m.startWithReader(t, filepath.Join(t.TempDir(), "root"))
	if err := push(m.root.url, "admin", m.root.password, "factory/app:v1.0"); err != nil {
		t.Fatal(err)
	}
	m.call(t, m.root, "PUT", "/connected-registries/site9", map[string]any{"repositories": []string{"factory/app"}})
	settings := m.call(t, m.root, "POST", "/connected-registries/site9/settings",
		map[string]any{"parentProtocol": "http", "generatePassword": 1})
	m.child = m.startWithReader(t, filepath.Join(t.TempDir(), "site"),
		"--connection-string", settings["ACR_REGISTRY_CONNECTION_STRING"].(string),
		"--parent-endpoint", strings.TrimPrefix(m.root.url, "http://"))
	m.text, _ = m.do(t, m.root, "admin", "GET", "/openapi.json", nil)
	if err := json.Unmarshal(m.text, &m.doc); err != nil {
		t.Fatal(err)
	}
	for path, item := range m.doc.Paths {
		for method, op := range item {
			op.method, op.path = strings.ToUpper(method), path
		}
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.text))
	if err != nil {
		t.Fatal(err)
	}
	m.schemas.AssertFormat()
	if err := m.schemas.AddResource("openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	return m
}

// startWithReader starts an instance that has the operator viewer, who may only read.
func (m *managed) startWithReader(t *testing.T, dir string, flags ...string) *instance {
	t.Helper()
	i := startInstance(t, dir, flags...)
	m.call(t, i, "PUT", "/operators/viewer", map[string]any{"role": "reader", "password": readerPassword})
	return i
}

// readerPassword is the password of the operator that may only read.
const readerPassword = "only for looking"

// do makes a request of the management API. "" is no user.
func (m *managed) do(t *testing.T, to *instance, user, method, path string, body any) ([]byte, *http.Response) {
	t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, to.url+"/api/v1"+path, content)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	switch user {
	case "admin":
		req.SetBasicAuth(user, to.password)
	case "viewer":
		req.SetBasicAuth(user, readerPassword)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return text, resp
}

// call makes a request as admin that must succeed, and returns the answer.
func (m *managed) call(t *testing.T, to *instance, method, path string, body any) (answer map[string]any) {
	t.Helper()
	text, resp := m.do(t, to, "admin", method, path, body)
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer
}

// operations returns the operations of the document: those that delete come last.
func (m *managed) operations() (all []*operation) {
	for _, path := range slices.Sorted(maps.Keys(m.doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(m.doc.Paths[path])) {
			all = append(all, m.doc.Paths[path][method])
		}
	}
	slices.SortStableFunc(all, func(a, b *operation) int {
		return strings.Compare(strconv.FormatBool(a.method == "DELETE"), strconv.FormatBool(b.method == "DELETE"))
	})
	return all
}

// body returns the example of an operation's body; nil if it has none.
func (o *operation) body() any {
	if o.RequestBody == nil {
		return nil
	}
	return o.RequestBody.Content["application/json"].Example
}

// requiredQuery returns the query with the examples of the required parameters.
func (o *operation) requiredQuery() string {
	query := url.Values{}
	for _, p := range o.Parameters {
		if p.In == "query" && p.Required {
			query.Set(p.Name, p.Example)
		}
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

// at returns the path of an operation about name, or about the example if that is "".
func (o *operation) at(name string) string {
	path := o.path
	for _, p := range o.Parameters {
		value := p.Example
		if p.Name == "name" && name != "" {
			value = name
		}
		if p.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(value))
		}
	}
	return path
}

// prepare makes the resources that the examples name, and returns the name for an operation's
// path, if it is not that of the example, and its body.
func (m *managed) prepare(t *testing.T, o *operation) (name string, body any) {
	t.Helper()
	host := strings.TrimPrefix(m.root.url, "http://")
	put := func(path, id string) {
		for _, put := range m.operations() {
			if put.OperationID == id {
				m.call(t, m.root, "PUT", path, put.body())
			}
		}
	}
	put("/scope-maps/pullers", "put-scope-map")
	put("/tokens/line1", "put-token")
	put("/purge-rules/nightly", "put-purge-rule")
	// An operation before this one may have changed it.
	m.do(t, m.root, "admin", "DELETE", "/connected-registries/ship1?cleanup=true", nil)
	put("/connected-registries/ship1", "create-connected-registry")
	body = o.body()
	source := "http://" + host + "/factory/app"
	m.call(t, m.root, "PUT", "/mirror-rules/alpine", map[string]any{"source": source, "repository": "mirror/alpine"})
	m.call(t, m.root, "PUT", "/webhooks/deploy",
		map[string]any{"uri": "http://127.0.0.1:9/", "actions": []string{"push"}})
	importBody := map[string]any{"source": source + ":v1.0", "images": []string{"mirror/app:v1.0"}, "force": true,
		"username": "admin", "password": m.root.password}
	if strings.HasPrefix(o.path, "/operators/") {
		m.do(t, m.root, "admin", "DELETE", "/operators/ci", nil)
		put("/operators/ci", "put-operator")
	}
	switch o.OperationID {
	case "delete-api-key":
		put("/operators/ci/api-keys/build", "create-api-key")
	case "import":
		body = importBody
	case "get-import":
		name = m.call(t, m.root, "POST", "/imports", importBody)["name"].(string)
	case "cancel-import": // of an image that does not come
		importBody = map[string]any{"source": "http://127.0.0.1:9/app:1"}
		name = m.call(t, m.root, "POST", "/imports", importBody)["name"].(string)
	case "put-mirror-rule", "update-mirror-rule":
		body.(map[string]any)["source"] = source // a registry on loopback
	case "delete-repository":
		name = "factory/old"
		if err := push(m.root.url, "admin", m.root.password, name+":1"); err != nil {
			t.Fatal(err)
		}
	}
	return name, body
}

// instanceOf returns the instance that serves an operation.
func (m *managed) instanceOf(o *operation) *instance {
	if o.path == "/sync" || strings.HasPrefix(o.path, "/sync/") {
		return m.child
	}
	return m.root
}

func TestOpenAPIFileMatchesTheProgram(t *testing.T) {
	m := startManaged(t)
	var whole map[string]any
	if err := json.Unmarshal(m.text, &whole); err != nil {
		t.Fatal(err)
	}
	whole["info"].(map[string]any)["version"] = "v1" // of the API; an instance says that of its program
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(whole); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(openAPIFile, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text.String(), string(got)); diff != "" {
		t.Errorf("docs/openapi.json is not what the program serves; run make docs:\n%s", diff)
	}
}

func TestEveryOperationIsDescribed(t *testing.T) {
	m := startManaged(t)
	if !strings.HasPrefix(m.doc.OpenAPI, "3.1") {
		t.Errorf("version %q", m.doc.OpenAPI)
	}
	for _, o := range m.operations() {
		if o.OperationID == "" || o.Summary == "" {
			t.Errorf("%s %s has no operationId or no summary", o.method, o.path)
		}
		for _, p := range o.Parameters {
			if p.Description == "" {
				t.Errorf("%s: the parameter %s has no description", o.OperationID, p.Name)
			}
			if p.In == "path" && p.Example == "" {
				t.Errorf("%s: {%s} in the path has no example; see parameters in management/example.go",
					o.OperationID, p.Name)
			}
		}
		if o.RequestBody != nil && o.body() == nil {
			t.Errorf("%s: the body has no example; see bodyExamples in management/example.go", o.OperationID)
		}
	}
	text, _ := m.do(t, m.child, "admin", "GET", "/openapi.json", nil)
	var child openAPI
	if err := json.Unmarshal(text, &child); err != nil {
		t.Fatal(err)
	}
	for path, item := range child.Paths {
		for method := range item {
			if m.doc.Paths[path][method] == nil {
				t.Errorf("the document of a root does not have %s %s, which a connected registry serves", method, path)
			}
		}
	}
}

func TestEveryOperationAnswersAsDocumented(t *testing.T) {
	m := startManaged(t)
	for _, o := range m.operations() {
		t.Run(o.OperationID, func(t *testing.T) {
			to := m.instanceOf(o)
			name, body := m.prepare(t, o)
			path := o.at(name)
			reads := o.method == "GET"

			text, resp := m.do(t, to, "", o.method, path, body)
			m.isProblem(t, resp, text, 401)
			if !reads {
				text, resp = m.do(t, to, "viewer", o.method, path, body)
				m.isProblem(t, resp, text, 403)
			}
			if strings.Contains(o.path, "{") && o.method != "PUT" {
				text, resp = m.do(t, to, "admin", o.method, o.at("nosuch9"), body)
				m.isProblem(t, resp, text, 404)
			}
			if o.RequestBody != nil {
				for _, bad := range []any{"[", "[]", map[string]any{"nosuch": 1}} {
					text, resp = m.do(t, to, "admin", o.method, path, bad)
					m.isProblem(t, resp, text, 400, 422)
				}
			}
			text, resp = m.do(t, to, "admin", o.method, path+"?nosuch=1", body)
			m.isProblem(t, resp, text, 400, 422)

			before := m.lastAudit(t, to)
			text, resp = m.do(t, to, "admin", o.method, path+o.requiredQuery(), body)
			if resp.StatusCode >= 300 {
				t.Fatalf("%s %s with the document's example: %s %s", o.method, path, resp.Status, text)
			}
			m.fits(t, o, resp, text)
			changes := !reads && o.OperationID != "purge" // whose example is a dry run
			if changes && m.lastAudit(t, to) == before {
				t.Errorf("%s %s leaves no audit entry", o.method, path)
			}
		})
	}
}

// lastAudit returns the number of the last entry in the audit log about the operator admin.
func (m *managed) lastAudit(t *testing.T, of *instance) any {
	t.Helper()
	all := m.call(t, of, "GET", "/audit-log?n=1&actor=admin", nil)["value"].([]any)
	if len(all) == 0 {
		return nil
	}
	return all[0].(map[string]any)["id"]
}

// isProblem fails the test unless an answer is a problem document with one of the statuses.
func (m *managed) isProblem(t *testing.T, resp *http.Response, text []byte, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, resp.StatusCode) {
		t.Errorf("%s %s: status %d, want %d: %.300s", resp.Request.Method, resp.Request.URL, resp.StatusCode,
			statuses, text)
		return
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	m.matches(t, "#/components/schemas/Problem", text)
}

// fits fails the test unless the document has the status of an answer, and a schema that the body
// fits.
func (m *managed) fits(t *testing.T, o *operation, resp *http.Response, text []byte) {
	t.Helper()
	status := strconv.Itoa(resp.StatusCode)
	documented, ok := o.Responses[status]
	if !ok {
		t.Fatalf("the document does not have the status %s of this operation", status)
	}
	if len(documented.Content) == 0 || len(text) == 0 {
		if len(documented.Content) != 0 || len(text) != 0 {
			t.Errorf("status %s has the body %q, and the document the content %v", status, text, documented.Content)
		}
		return
	}
	pointer := strings.NewReplacer("~", "~0", "/", "~1").Replace(o.path)
	m.matches(t, "#/paths/"+url.PathEscape(pointer)+"/"+strings.ToLower(o.method)+"/responses/"+status+
		"/content/application~1json/schema", text)
}

// matches fails the test unless text is JSON that fits the schema at a place of the document.
func (m *managed) matches(t *testing.T, place string, text []byte) {
	t.Helper()
	schema, err := m.schemas.Compile("openapi.json" + place)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %.300s", err, text)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%v\n%.1000s", err, text)
	}
}
