package kube

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

func TestKeysOfAPullSecretMatchImageNames(t *testing.T) {
	for _, test := range []struct {
		endpoint        string
		images, foreign []string
	}{
		{"http://10.1.1.1:80", []string{"10.1.1.1:80/a/b", "10.1.1.1/a"}, []string{"10.1.1.1:443/a", "10.1.1.2/a"}},
		{"http://10.1.1.1", []string{"10.1.1.1:80/a/b", "10.1.1.1/a"}, nil},
		{"https://edge.example", []string{"edge.example/a", "edge.example:443/a"}, []string{"edge.example:80/a"}},
		{"https://edge.example:5000", []string{"edge.example:5000/a"}, []string{"edge.example/a"}},
		{"https://[fd00::1]:5000", []string{"[fd00::1]:5000/a"}, []string{"[fd00::1]/a"}},
		{"https://[fd00::1]", []string{"[fd00::1]:443/a", "[fd00::1]/a"}, nil},
	} {
		endpoint, err := url.Parse(test.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		found := func(image string) bool {
			want, err := parsePattern(image)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range RegistryKeys(endpoint) {
				if p, err := parsePattern(k); err != nil {
					t.Error(err)
				} else if p.matches(want) {
					return true
				}
			}
			return false
		}
		for _, image := range test.images {
			if !found(image) {
				t.Errorf("%s: no login for %s", test.endpoint, image)
			}
		}
		for _, image := range test.foreign {
			if found(image) {
				t.Errorf("%s: a login for %s", test.endpoint, image)
			}
		}
	}
	if got := MirrorKey("docker.io"); got != "https://index.docker.io/v1/" {
		t.Errorf("the key for docker.io is %s", got)
	}
}

func TestAPullSecretsYAMLEqualsItsJSON(t *testing.T) {
	s, err := PullSecret("apps", "regcred", "line1", `p"w`, []string{"10.1.1.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON, fromYAML any
	if err := json.Unmarshal(text, &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Load(s.YAML(), &fromYAML); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Error(diff)
	}
	want := `{"auths":{"10.1.1.1:80":{"username":"line1","password":"p\"w","auth":"bGluZTE6cCJ3"}}}`
	if got := string(s.Data[".dockerconfigjson"]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
