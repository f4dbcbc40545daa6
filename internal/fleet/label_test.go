package fleet_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
)

func TestLabelsAreSetAndRemovedByKey(t *testing.T) {
	root := newRoot(t)
	root.Call(t, "PUT", "/connected-registries/ship1", object{
		"repositories": []string{"a"}, "labels": map[string]string{"group": "baltic", "class": "ferry", "": ""},
	}).OK(t, nil)
	root.Call(t, "PATCH", "/connected-registries/ship1", object{
		"labels": map[string]string{"group": "", "example.com/owner": "ops", "class": "tug"},
	}).OK(t, nil)
	want := map[string]string{"class": "tug", "example.com/owner": "ops"}
	if diff := cmp.Diff(want, root.Show(t, "ship1").Labels); diff != "" {
		t.Error(diff)
	}
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"keepLast": 1}).OK(t, nil)
	if diff := cmp.Diff(want, root.Show(t, "ship1").Labels); diff != "" {
		t.Error(diff)
	}
	root.Call(t, "PATCH", "/connected-registries/ship1", object{
		"labels": map[string]string{"class": "", "example.com/owner": "", "never": ""},
	}).OK(t, nil)
	if diff := cmp.Diff(map[string]string{}, root.Show(t, "ship1").Labels); diff != "" {
		t.Error(diff)
	}
}

func TestLabelsAreBoundedAndSpelledAsInKubernetes(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "ship1", "", "a")
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprint("k", i)] = "v"
	}
	long := strings.Repeat("a", 64)
	for name, labels := range map[string]map[string]string{
		"33 labels":            many,
		"a key of 64":          {long: "v"},
		"a value of 64":        {"k": long},
		"a key with a space":   {"a b": "v"},
		"a value with a colon": {"k": "a:b"},
		"a value with a comma": {"k": "a,b"},
		"a key that ends in -": {"a-": "v"},
		"an empty prefix":      {"/a": "v"},
		"two prefixes":         {"a/b/c": "v"},
		"a prefix in capitals": {"A.example/b": "v"},
		"a key of filters":     {"State": "v"},
	} {
		t.Run(name, func(t *testing.T) {
			root.Call(t, "PATCH", "/connected-registries/ship1", object{"labels": labels}).
				Fails(t, 400, api.CodeInvalid, "label")
		})
	}
	delete(many, "k0")
	many[strings.Repeat("a", 63)], many["k2"], many["example.com/k3"] = "v", strings.Repeat("a", 63), "A_b-c.d"
	delete(many, "k1")
	delete(many, "k3")
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"labels": many}).OK(t, nil)
}
