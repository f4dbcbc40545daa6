package noderuntime

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAddToListChangesNothingElse(t *testing.T) {
	for name, test := range map[string]struct{ old, want string }{
		"empty": {"{}\n", "{\n  \"k\": [\"v\"]\n}\n"},
		"another key": {"{\n    \"b\": 1,\n    \"a\": {}\n}\n",
			"{\n    \"k\": [\"v\"],\n    \"b\": 1,\n    \"a\": {}\n}\n"},
		"one line":     {`{"b": "[", "a": 2}`, `{"k": ["v"], "b": "[", "a": 2}`},
		"the list":     {`{"k": ["a", "b"], "c": 1}`, `{"k": ["v", "a", "b"], "c": 1}`},
		"a line each":  {"{\"k\": [\n  \"a\"\n]}", "{\"k\": [\n  \"v\",\n  \"a\"\n]}"},
		"an empty one": {`{"k": [ ]}`, `{"k": ["v"]}`},
		"null":         {`{"k": null}`, `{"k": ["v"]}`},
		"it is there":  {`{"k":["a","v"]}`, `{"k":["a","v"]}`},
		"a bracket":    {`{"k":["a[b"]}`, `{"k":["v", "a[b"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := addToList([]byte(test.old), "k", "v")
			if err != nil || !json.Valid(got) {
				t.Fatalf("got %q, %v", got, err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, bad := range []string{"", "[]", "{", `{"k": "text"}`, "{} {}"} {
		if got, err := addToList([]byte(bad), "k", "v"); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestDuplicateKeyOfDockerIsRefused(t *testing.T) {
	n := newNode(t, "-- etc/docker/daemon.json --\n"+
		`{"registry-mirrors": ["https://a"], "registry-mirrors": ["https://b"]}`)
	s := &Settings{Endpoint: edge, Mirrors: []string{"docker.io"}}
	if _, err := n.Configure(t.Context(), mustChoose(t, n, "docker", s), s); err == nil ||
		!strings.Contains(err.Error(), "registry-mirrors is there twice") {
		t.Errorf("the error is %v", err)
	}
}
