package kube

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An apiServer is a server of the Kubernetes API that records its requests.
type apiServer struct {
	*httptest.Server
	ca       []byte // PEM
	requests []request
	status   int
	answer   string
}

type request struct {
	Method, Target, Type, Authorization, Body string
	Certificate                               bool // the client has one
}

func newServer(t *testing.T) *apiServer {
	s := &apiServer{status: http.StatusOK, answer: `{"kind":"ConfigMap","metadata":{"name":"x"}}`}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.requests = append(s.requests, request{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"),
			r.Header.Get("Authorization"), string(body), len(r.TLS.PeerCertificates) > 0})
		if s.status/100 == 3 {
			w.Header().Set("Location", "https://evil.example/")
		}
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.answer)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return s
}

// pod returns a client with the credentials of a pod, whose files are in the returned directory.
func (s *apiServer) pod(t *testing.T) (*Client, string) {
	host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), ":")
	env := map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "one\n")
	write(t, filepath.Join(dir, "ca.crt"), string(s.ca))
	write(t, filepath.Join(dir, "namespace"), "edge")
	c, err := inCluster(func(k string) string { return env[k] }, dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestApplyTakesOverTheFieldsItSets(t *testing.T) {
	s := newServer(t)
	c, _ := s.pod(t)
	object := NewConfigMap("edge", "ferry-ca", map[string]string{"ca.crt": "PEM"})
	if err := c.Apply(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	want := []request{{
		Method: "PATCH", Target: "/api/v1/namespaces/edge/configmaps/ferry-ca?fieldManager=ferry&force=true",
		Type: "application/apply-patch+yaml", Authorization: "Bearer one",
		Body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"ferry-ca","namespace":"edge"},` +
			`"data":{"ca.crt":"PEM"}}`,
	}}
	if diff := cmp.Diff(want, s.requests); diff != "" {
		t.Error(diff)
	}
}

func TestAPodReadsItsTokenAnew(t *testing.T) {
	s := newServer(t)
	c, dir := s.pod(t)
	var found ConfigMap
	ref := Ref{Resource: "configmaps", Namespace: "edge", Name: "x"}
	if err := c.Get(t.Context(), ref, &found); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "token"), "two")
	if err := c.Get(t.Context(), ref, &found); err != nil {
		t.Fatal(err)
	}
	if len(s.requests) != 2 || s.requests[1].Authorization != "Bearer two" || found.Metadata.Name != "x" {
		t.Errorf("requests %+v, object %+v", s.requests, found)
	}
	if namespace, err := c.Namespace(t.Context()); namespace != "edge" || err != nil {
		t.Errorf("namespace %q, %v", namespace, err)
	}
}

// kubeconfig returns a kubeconfig file with one user, in YAML of one line.
func (s *apiServer) kubeconfig(user string) string {
	return `
current-context: here
clusters: [{name: c, cluster: {server: "` + s.URL + `", certificate-authority-data: ` +
		base64.StdEncoding.EncodeToString(s.ca) + `}}]
contexts: [{name: here, context: {cluster: c, user: u, namespace: apps}}]
users: [{name: u, user: ` + user + `}]
`
}

func open(t *testing.T, paths ...string) (*Client, error) {
	t.Helper()
	list := strings.Join(paths, string(filepath.ListSeparator))
	return Open(Options{Getenv: func(k string) string { return map[string]string{"KUBECONFIG": list}[k] }})
}

func TestEachLoginOfAKubeconfigFile(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "from-a-file\n")
	write(t, filepath.Join(dir, "plugin"), `#!/bin/sh
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'$1-$SAY'"}}'
`)
	if err := os.Chmod(filepath.Join(dir, "plugin"), 0o700); err != nil {
		t.Fatal(err)
	}
	certificate := base64.StdEncoding.EncodeToString(s.ca)
	key, err := keyOf(s.Server)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, user, want string
		certificate      bool
	}{
		{"token", `{token: abc}`, "Bearer abc", false},
		{"token file", `{tokenFile: token}`, "Bearer from-a-file", false},
		{"password", `{username: me, password: pw}`, "Basic bWU6cHc=", false},
		{"certificate", `{client-certificate-data: ` + certificate + `, client-key-data: ` +
			base64.StdEncoding.EncodeToString(key) + `}`, "", true},
		{"plugin", `{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, args: [made], ` +
			`env: [{name: SAY, value: here}]}}`, "Bearer made-here", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.requests = nil
			path := filepath.Join(dir, "config")
			write(t, path, s.kubeconfig(test.user))
			c, err := open(t, path)
			if err == nil {
				err = c.Get(t.Context(), DaemonSet("edge", "x"), new(Meta))
			}
			if err != nil {
				t.Fatal(err)
			}
			got := s.requests[0]
			if got.Authorization != test.want || got.Certificate != test.certificate ||
				got.Target != "/apis/apps/v1/namespaces/edge/daemonsets/x" {
				t.Errorf("got %+v", got)
			}
			if namespace, err := c.Namespace(t.Context()); namespace != "apps" || err != nil {
				t.Errorf("namespace %q, %v", namespace, err)
			}
		})
	}
}

func TestTheFirstKubeconfigFileWins(t *testing.T) {
	s := newServer(t)
	first, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	write(t, first, "current-context: here\nusers: [{name: u, user: {token: first}}]\n")
	write(t, second, strings.Replace(s.kubeconfig("{token: second}"), "t: here", "t: none", 1))
	c, err := open(t, filepath.Join(t.TempDir(), "none"), first, second)
	if err == nil {
		err = c.Get(t.Context(), DaemonSet("edge", "x"), new(Meta))
	}
	if err != nil || s.requests[0].Authorization != "Bearer first" {
		t.Errorf("%+v, %v", s.requests, err)
	}
}

func TestKubeconfigMistakesAreNamed(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	for _, test := range []struct{ name, file, want string }{
		{"none", "", "no kubeconfig file"},
		{"empty", "\n", "has no current context"},
		{"not YAML", "users: [{token: secret", "is not a kubeconfig file"},
		{"unknown context", "current-context: gone\n", `no context "gone"`},
		{"no cluster", "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n", `no cluster "c"`},
		{"no user", strings.Replace(s.kubeconfig("{}"), "name: u,", "name: v,", 1), `no user "u"`},
		{"address", strings.Replace(s.kubeconfig("{}"), "https://", "ftp://", 1), "not an address"},
		{"token without TLS", strings.Replace(s.kubeconfig("{token: secret}"), "https", "http", 1), "without TLS"},
		{"impersonation", s.kubeconfig("{token: secret, as: root}"), "impersonates"},
		{"auth-provider", s.kubeconfig("{auth-provider: {name: gcp}}"), "auth-provider"},
		{"data", s.kubeconfig("{client-certificate-data: '*'}"), "not base64"},
		{"key", s.kubeconfig("{client-certificate-data: YQ==}"), "client certificate"},
		{"old plugin", s.kubeconfig("{exec: {apiVersion: v0, command: x}}"), "exec plugin"},
		{"failing plugin", s.kubeconfig("{exec: {apiVersion: client.authentication.k8s.io/v1, command: 'false'}}"),
			"run the exec plugin"},
		{"silent plugin", s.kubeconfig("{exec: {apiVersion: client.authentication.k8s.io/v1, command: 'true'}}"),
			"printed no ExecCredential"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, "none")
			if test.file != "" {
				path = filepath.Join(dir, "config")
				write(t, path, test.file)
			}
			c, err := open(t, path)
			if err == nil {
				err = c.Get(t.Context(), DaemonSet("edge", "x"), new(Meta))
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	if len(s.requests) > 0 {
		t.Errorf("requests were sent: %+v", s.requests)
	}
}

func TestErrorsHaveTheMessageOfTheAPI(t *testing.T) {
	s := newServer(t)
	c, _ := s.pod(t)
	for _, test := range []struct {
		status           int
		answer           string
		wantText, wantIn string // in the error, and in its hint
	}{
		{403, `{"kind":"Status","message":"secrets is forbidden"}`, "403: secrets is forbidden", "Role"},
		{404, `{"kind":"Status","message":"namespaces \"edge\" not found"}`, "not found", "create namespace"},
		{401, "Unauthorized", "401: unauthorized", "service account"},
		{302, "", "302", "another server"},
		{500, strings.Repeat("x", 5<<20), "larger than 4 MiB", ""},
		{200, "<html>", "", ""},
	} {
		s.status, s.answer = test.status, test.answer
		err := c.Apply(t.Context(), NewSecret("edge", "pull", "Opaque", nil))
		if test.wantText == "" {
			err = c.Get(t.Context(), DaemonSet("edge", "x"), new(Meta))
			test.wantText = "is not JSON"
		}
		var hint interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), test.wantText) ||
			(test.wantIn != "" && (!errors.As(err, &hint) || !strings.Contains(hint.Hint(), test.wantIn))) {
			t.Errorf("%d: %v", test.status, err)
		}
	}
	over, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := c.Get(over, DaemonSet("edge", "x"), new(Meta)); err == nil ||
		!strings.Contains(err.Error(), "it did not answer within 30 seconds") {
		t.Errorf("a slow server: %v", err)
	}
	s.Close()
	if err := c.Get(t.Context(), DaemonSet("edge", "x"), new(Meta)); err == nil || StatusOf(err) != 0 {
		t.Errorf("a closed server: %v", err)
	}
}

func TestAnUnknownAuthorityGetsNoCredentials(t *testing.T) {
	s := newServer(t)
	c, dir := s.pod(t)
	other := newCertificate(t)
	write(t, filepath.Join(dir, "ca.crt"), string(other))
	if err := c.Get(t.Context(), DaemonSet("edge", "x"), new(Meta)); err == nil || len(s.requests) > 0 {
		t.Errorf("%v, requests %+v", err, s.requests)
	}
}

func TestPresence(t *testing.T) {
	s := newServer(t)
	c, _ := s.pod(t)
	exists := `{"kind":"DaemonSet","metadata":{"name":"x"}}`
	p := NewPresence(c, DaemonSet("edge", "x"))
	for _, step := range []struct {
		name    string
		status  int
		answer  string
		want    bool
		wantErr bool
	}{
		{"refused before it was seen", 403, "", false, true},
		{"there", 200, exists, true, false},
		{"the API fails", 500, "", false, true},
		{"being deleted", 200, `{"metadata":{"deletionTimestamp":"2031-01-01T00:00:00Z"}}`, false, false},
		{"the account is deleted", 401, "", false, false},
		{"the right is deleted", 403, "", false, false},
		{"deleted", 404, "", false, false},
	} {
		s.status, s.answer = step.status, step.answer
		got, err := p.Exists(t.Context())
		if got != step.want || (err != nil) != step.wantErr {
			t.Errorf("%s: %v, %v", step.name, got, err)
		}
	}
}

func TestNamesOfObjects(t *testing.T) {
	for _, text := range []string{"edge/ferry-ca", "e/f.g-h"} {
		if _, _, err := ParseName(text); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{
		"", "edge", "edge/", "/x", "Edge/x", "edge/x/y", "edge/..", "../x", "a.b/x", "edge/x?",
	} {
		if namespace, name, err := ParseName(text); err == nil {
			t.Errorf("%q is %q, %q", text, namespace, name)
		}
	}
	s := newServer(t)
	c, _ := s.pod(t)
	if err := c.Apply(t.Context(), NewSecret("edge", "../x", "Opaque", nil)); err == nil || len(s.requests) > 0 {
		t.Errorf("%v, requests %+v", err, s.requests)
	}
}

func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte("contexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {}}]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "config")
		write(t, path, string(text))
		all, err := readConfigs([]string{path})
		for _, c := range all.clusters {
			if conn, err := c.connection(); err == nil && conn.server.Host == "" {
				t.Errorf("a connection to no server: %+v", c)
			}
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error has several lines: %q", err)
		}
	})
}

func TestAPublisherNeedsAPod(t *testing.T) {
	none := func(string) string { return "" }
	if _, err := NewPublisher(none, "edge/ferry-ca", "ca.crt"); !errors.Is(err, ErrNotInCluster) {
		t.Errorf("error %v", err)
	}
	s := newServer(t)
	c, _ := s.pod(t)
	p := Publisher{c, "edge", "ferry-ca", "ca.crt"}
	if err := p.Publish(t.Context(), []byte("PEM")); err != nil {
		t.Fatal(err)
	}
	if got := s.requests[0].Body; !strings.Contains(got, `"data":{"ca.crt":"PEM"}`) {
		t.Errorf("body %s", got)
	}
}

func TestALoginIsWrittenIntoEachPullSecret(t *testing.T) {
	none := func(string) string { return "" }
	if _, err := NewLoginPublisher(none, "edge/pull"); !errors.Is(err, ErrNotInCluster) {
		t.Errorf("outside a pod: %v", err)
	}
	for _, targets := range []string{"", "edge", "edge/pull,", "edge/../x"} {
		if _, err := NewLoginPublisher(none, targets); err == nil || errors.Is(err, ErrNotInCluster) {
			t.Errorf("targets %q: %v", targets, err)
		}
	}
	s := newServer(t)
	c, _ := s.pod(t)
	p := LoginPublisher{c, []Ref{{Resource: "secrets", Namespace: "edge", Name: "pull"},
		{Resource: "secrets", Namespace: "nodes", Name: "pull"}}}
	var registries []*url.URL
	for _, text := range []string{"https://a.example", "https://b.example:5000/below"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		registries = append(registries, u)
	}
	if err := p.PublishLogin(t.Context(), "ship1", "one", registries); err != nil {
		t.Fatal(err)
	}
	for i, namespace := range []string{"edge", "nodes"} {
		r := s.requests[i]
		var got Secret
		if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
			t.Fatal(err)
		}
		const login = `{"username":"ship1","password":"one","auth":"c2hpcDE6b25l"}`
		want := NewSecret(namespace, "pull", PullSecretType, map[string][]byte{".dockerconfigjson": []byte(
			`{"auths":{"a.example":` + login + `,"a.example:443":` + login + `,"b.example:5000":` + login + `}}`)})
		if diff := cmp.Diff(want, got); diff != "" || r.Method != "PATCH" ||
			r.Target != "/api/v1/namespaces/"+namespace+"/secrets/pull?fieldManager=ferry&force=true" {
			t.Errorf("%s %s: %s", r.Method, r.Target, diff)
		}
	}
	s.status, s.answer = 403, `{"kind":"Status","message":"secrets is forbidden"}`
	err := p.PublishLogin(t.Context(), "ship1", "two", registries)
	if err == nil || strings.Contains(err.Error(), "two") || len(s.requests) != 4 ||
		!strings.Contains(err.Error(), "secret edge/pull") || !strings.Contains(err.Error(), "secret nodes/pull") {
		t.Errorf("refused: %v, %d requests", err, len(s.requests))
	}
}
