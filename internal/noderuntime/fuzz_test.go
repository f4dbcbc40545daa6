package noderuntime

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v4"
)

// Whatever a file has: the change is found by a parser, leaves the rest as it was, and can be
// undone.

func FuzzHosts(f *testing.F) {
	for _, text := range []string{"", "server = 'a'\n",
		"[host.'https://a']\nca = 'x'\n[host.'https://a'.header]\na='b'",
		"a = [\n['x']\n]\n[host]\n", "[[host]]\n", "host = 1", "host.'b'.ca = 'x'"} {
		f.Add([]byte(text))
	}
	h := hostsEntry{url: edge, mirror: true, upstream: true}
	f.Fuzz(func(t *testing.T, old []byte) {
		text, err := h.hosts(old)
		if err != nil {
			return
		}
		var before, after map[string]any
		if err := toml.Unmarshal(text, &after); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if err := toml.Unmarshal(old, &before); err != nil {
			t.Fatalf("%q was changed: %v", old, err)
		}
		hosts, _ := after["host"].(map[string]any)
		if _, ok := hosts[edge].(map[string]any); !ok {
			t.Fatalf("%q has no endpoint", text)
		}
		without, ok := removeHost(text, edge)
		if !ok || bytes.Contains(without, []byte(edge)) && !bytes.Contains(old, []byte(edge)) {
			t.Fatalf("the endpoint stays in %q", without)
		}
		if back, ok := reverse(text, old, text); !ok || !bytes.Equal(back, old) {
			t.Fatalf("%q was undone as %q, %t", old, back, ok)
		}
	})
}

func FuzzAddToList(f *testing.F) {
	for _, text := range []string{"{}", `{"k": []}`, `{"k": ["a"], "b": {"k": 1}}`,
		"{\n\t\"a\": 1\n}\n", `{"k":null}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		text, err := addToList(old, "k", "v")
		if err != nil {
			return
		}
		var before, after map[string]any
		if json.Unmarshal(old, &before) != nil || json.Unmarshal(text, &after) != nil {
			t.Fatalf("%q became %q", old, text)
		}
		list, _ := after["k"].([]any)
		if len(list) == 0 {
			t.Fatalf("%q has no value", text)
		}
		delete(before, "k")
		delete(after, "k")
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q", old, text)
		}
	})
}

func FuzzInsertYAML(f *testing.F) {
	for _, text := range []string{"", "# a\n", "mirrors:\n", "mirrors:\n  docker.io:\n    endpoint:\n    - a\n",
		"mirrors: {docker.io: {endpoint: [a]}}", "a: &x {b: 1}\nmirrors:\n  docker.io: *x\n", "- 1", "mirrors: 1",
		"---\nmirrors:\n  'docker.io' : \n    endpoint: []\n...\n", "mirrors:\n\n  # c\n  docker.io: ~\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		text, err := insertYAML(old, []string{"mirrors", "docker.io", "endpoint"}, edge)
		if err != nil {
			return
		}
		var file k3sRegistries
		if err := yaml.Unmarshal(text, &file); err != nil {
			return // other members have types that K3s refuses, too
		}
		endpoints := file.Mirrors["docker.io"].Endpoint
		if len(endpoints) == 0 || endpoints[0] != edge {
			t.Fatalf("%q became %q", old, text)
		}
	})
}

func FuzzReverse(f *testing.F) {
	f.Add([]byte("a\nb\n"), []byte("a\nX\nb\n"), []byte("a\nX\nn\nb\n"))
	f.Fuzz(func(t *testing.T, before, ours, now []byte) {
		if back, ok := reverse(ours, before, ours); !ok || !bytes.Equal(back, before) {
			t.Fatalf("%q to %q was undone as %q, %t", before, ours, back, ok)
		}
		reverse(ours, before, now)
	})
}
