package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPullSecretIsAppliedWithTheKubeconfigFile(t *testing.T) {
	var got []string
	status := http.StatusCreated
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = append(got, r.Method+" "+r.URL.Path, r.Header.Get("Authorization"), string(body))
		w.WriteHeader(status)
		fmt.Fprint(w, `{"kind":"Status","message":"secrets \"regcred\" is forbidden"}`)
	}))
	defer api.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	dir := t.TempDir()
	kubeconfig, password := filepath.Join(dir, "config"), filepath.Join(dir, "password")
	for path, text := range map[string]string{
		kubeconfig: fmt.Sprintf(`
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
contexts: [{name: site, context: {cluster: c, user: u, namespace: apps}}]
users: [{name: u, user: {token: abc}}]`, api.URL, base64.StdEncoding.EncodeToString(ca)),
		password: "ferry_pw\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	env := &Env{Stdout: &stdout, Stderr: &stderr, Stdin: strings.NewReader(""),
		LookupEnv: Variables(map[string]string{"KUBECONFIG": kubeconfig})}
	args := []string{"client", "pull-secret", "--name", "regcred", "--endpoint", "http://10.1.1.1:80",
		"--token", "line1", "--password-file", password, "--apply", "--context", "site"}
	if code := Run(t.Context(), args, env); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if len(got) != 3 || got[0] != "PATCH /api/v1/namespaces/apps/secrets/regcred" || got[1] != "Bearer abc" ||
		!strings.Contains(got[2], `"type":"kubernetes.io/dockerconfigjson"`) {
		t.Errorf("requests %q", got)
	}
	if stdout.Len() > 0 || !strings.Contains(stderr.String(), "Applied the secret apps/regcred") ||
		strings.Contains(stderr.String(), "ferry_pw") {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
	status = http.StatusForbidden
	stderr.Reset()
	if code := Run(t.Context(), args, env); code != 1 || !strings.Contains(stderr.String(),
		`ferry: apply secret apps/regcred: the Kubernetes API answered 403: secrets "regcred" is forbidden`) ||
		!strings.Contains(stderr.String(), "hint: ") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
