package kube

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

func providerRequestFor(image string) string {
	text, err := json.Marshal(map[string]string{"apiVersion": providerVersion, "kind": "CredentialProviderRequest",
		"image": image, "serviceAccountToken": "a field of a newer kubelet"})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A kubeletResponse is a CredentialProviderResponse as a kubelet decodes it: strictly.
type kubeletResponse struct {
	APIVersion    string  `json:"apiVersion"`
	Kind          string  `json:"kind"`
	CacheKeyType  string  `json:"cacheKeyType"`
	CacheDuration *string `json:"cacheDuration,omitempty"`
	Auth          map[string]struct {
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"auth,omitempty"`
}

func TestAProviderAnswersOnlyForMatchingImages(t *testing.T) {
	for _, test := range []struct {
		image string
		want  []string // the matches of the answer
	}{
		{"10.1.1.1:80/apps/web", []string{"10.1.1.1:80"}},
		{"10.1.1.1/apps/web", nil},
		{"10.1.1.1:8080/apps/web", nil},
		{"docker.io/library/nginx", []string{"docker.io"}},
		{"ship.example/a", []string{"*.example"}},
		{"a.ship.example/a", nil},
		{"quay.io/team/app", []string{"quay.io/team"}},
		{"quay.io/other/app", nil},
		{"[fd00::1]:5000/a", []string{"[fd00::1]:5000"}},
	} {
		p := Provider{Cache: time.Minute}
		for _, m := range []string{"10.1.1.1:80", "docker.io", "*.example", "quay.io/team", "[fd00::1]:5000"} {
			p.Credentials = append(p.Credentials, Credential{m, "line1", "pw of " + m})
		}
		var out bytes.Buffer
		if err := p.Answer(strings.NewReader(providerRequestFor(test.image)), &out); err != nil {
			t.Fatal(err)
		}
		var got kubeletResponse
		d := json.NewDecoder(&out)
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.APIVersion != providerVersion || got.Kind != "CredentialProviderResponse" ||
			*got.CacheDuration != "1m0s" {
			t.Errorf("got %+v", got)
		}
		if got.CacheKeyType != "Image" { // one of the patterns has a path
			t.Errorf("the cache's key is the %s", got.CacheKeyType)
		}
		var matches []string
		for m, login := range got.Auth {
			matches = append(matches, m)
			if login.Username != "line1" || login.Password != "pw of "+m {
				t.Errorf("%s: %+v", m, login)
			}
		}
		if diff := cmp.Diff(test.want, matches); diff != "" {
			t.Errorf("%s: %s", test.image, diff)
		}
	}
}

func TestALoginIsCachedForTheWholeRegistry(t *testing.T) {
	p := Provider{Credentials: []Credential{{"10.1.1.1:80", "line1", "pw"}}, Cache: time.Minute}
	var out bytes.Buffer
	if err := p.Answer(strings.NewReader(providerRequestFor("10.1.1.1:80/a")), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"cacheKeyType":"Registry"`) {
		t.Errorf("got %s", out.String())
	}
}

func TestAProviderRefusesOtherRequests(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no JSON": "{secret", "another kind": `{"kind":"Pod"}`,
		"version": strings.Replace(providerRequestFor("a.example/b"), "/v1", "/v9", 1),
		"image":   providerRequestFor("https://a.example/b"), "no image": providerRequestFor(""),
		"large": providerRequestFor(strings.Repeat("a", 2<<20)),
	} {
		var out bytes.Buffer
		p := Provider{Credentials: []Credential{{"a.example", "line1", "secret"}}}
		err := p.Answer(strings.NewReader(text), &out)
		if err == nil || out.Len() > 0 || strings.Contains(err.Error(), "secret") || len(err.Error()) > 300 {
			t.Errorf("%s: %v, output %s", name, err, out.String())
		}
	}
}

func TestTheKubeletsConfigurationNamesEachMatchOnce(t *testing.T) {
	p := Provider{Cache: time.Minute, Credentials: []Credential{{"a.example", "x", "pw"}, {"b:80/c", "y", "pw"}}}
	text, err := p.Config("ferry", []string{"credential-provider", "--credentials=/c"})
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := yaml.Load(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
		"providers": []any{map[string]any{"name": "ferry", "apiVersion": providerVersion,
			"matchImages": []any{"a.example", "b:80/c"}, "defaultCacheDuration": "1m0s",
			"args": []any{"credential-provider", "--credentials=/c"}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzProviderRequest(f *testing.F) {
	f.Add([]byte(providerRequestFor("10.1.1.1:80/a/b")), "*.1.1.1:80")
	f.Fuzz(func(t *testing.T, text []byte, match string) {
		if CheckPattern(match) != nil {
			return
		}
		var out bytes.Buffer
		err := Provider{Credentials: []Credential{{match, "line1", "pw"}}}.Answer(bytes.NewReader(text), &out)
		if err == nil && !json.Valid(out.Bytes()) {
			t.Errorf("the answer is not JSON: %s", out.Bytes())
		}
	})
}
