package noderuntime

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiffsShowNoSecrets(t *testing.T) {
	for name, text := range map[string]string{
		"on its own line":          "auth:\n  username: me\n  password: hunter2\n",
		"in a map on one line":     `{configs: {a: {auth: {username: me, password: 'hunter2'}}}} # end` + "\n",
		"in JSON on one line":      `{"auths": {"a": {"identitytoken": "hunter2"}}}` + "\n",
		"in a TOML list":           "authorization = [\n\"Basic hunter2\",\n\"hunter2\"\n]\n",
		"in a header of any name":  "[host.\"https://a\".header]\n  x-custom = \"hunter2\"\n",
		"in headers on one line":   "header = { x-custom = \"hunter2\" }\n",
		"in a TOML text":           "password = \"\"\"\nkey = hunter2\n\"\"\"\n",
		"in a YAML block":          "password: |-\n  x: hunter2\n  hunter2\n",
		"on the line after":        "password:\n  hunter2\n",
		"in a text of two lines":   "password: \"hun\n  key: hunter2\"\n",
		"in a URL":                 "endpoint:\n  - https://me:p@hunter2@a.example\n",
		"in a key with a dash":     "PRIVATE-TOKEN: hunter2\nx-registry-auth: no\n",
		"of a list in a YAML list": "- token: hunter2\n",
	} {
		if got := string(masked([]byte(text))); strings.Contains(got, "hunter2") {
			t.Errorf("%s: the diff shows the secret:\n%s", name, got)
		}
	}
}

func TestDiffsShowEverythingElse(t *testing.T) {
	text := `# password: see below
mirrors:
  docker.io:
    endpoint: ["https://a.example"]
configs:
  a.example:
    auth:
      username: me
      # a comment
    tls:
      ca_file: /etc/a.crt
      key_file: /etc/a.key
[host."https://a".header]
[host."https://b"]
  capabilities = ["pull"]
`
	if diff := cmp.Diff(text, string(masked([]byte(text)))); diff != "" {
		t.Errorf("something else is hidden (-want +got):\n%s", diff)
	}
}
