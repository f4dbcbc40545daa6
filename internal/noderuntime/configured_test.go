package noderuntime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfiguredNodeIsDescribed(t *testing.T) {
	n := newNode(t, `-- etc/containerd/config.toml --
version = 3
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
`)
	n.Version = "2.4.2"
	inspect := func() (Runtime, Configured) {
		t.Helper()
		found := n.Detect(t.Context())
		if len(found) != 1 {
			t.Fatalf("found %+v", found)
		}
		c, err := n.Configured(found[0])
		if err != nil {
			t.Fatal(err)
		}
		return found[0], c
	}
	r, c := inspect()
	if diff := cmp.Diff(Configured{}, c); diff != "" {
		t.Errorf("before: %s", diff)
	}
	ca := authority(t)
	s := &Settings{Endpoint: "https://edge.example:5000", CA: ca, Username: "node1", Password: "s3:cret"}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Configure(t.Context(), []Runtime{r}, s); err != nil {
		t.Fatal(err)
	}
	_, c = inspect()
	want := &Endpoint{URL: "https://edge.example:5000", CA: ca, Username: "node1", Password: "s3:cret"}
	if diff := cmp.Diff(want, c.Endpoint); diff != "" || len(c.Files) == 0 || c.Changed != nil || c.MissingLink != "" {
		t.Errorf("configured: %+v\n%s", c, diff)
	}

	for endpoint, want := range map[string]int{"https://edge.example:5000": 0, "https://other.example": 1} {
		other := *s
		other.Endpoint = endpoint
		results, err := n.Preview(t.Context(), []Runtime{r}, &other)
		if err != nil {
			t.Fatal(err)
		}
		replaced := 0
		for _, note := range results[0].Notes {
			if strings.Contains(note, "the configuration for https://edge.example:5000 is replaced") {
				replaced++
			}
		}
		if replaced != want {
			t.Errorf("%s after https://edge.example:5000: notes %q", endpoint, results[0].Notes)
		}
	}

	link := "/etc/containerd/certs.d:/etc/docker/certs.d"
	full, err := n.resolve(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(n.Root, "etc/containerd/certs.d/edge.example:5000/hosts.toml")
	if _, err := os.Stat(hosts); err != nil {
		hosts = filepath.Join(n.Root, "etc/containerd/certs.d/edge.example_5000_/hosts.toml")
	}
	if err := os.WriteFile(hosts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, c = inspect()
	if c.MissingLink != link || len(c.Changed) != 2 {
		t.Errorf("after the link was removed and a file was emptied: %+v", c)
	}
}

func TestNodeConfiguredByTheChartIsDescribed(t *testing.T) {
	n := newNode(t, `-- etc/containerd/config.toml --
version = 3
`)
	n.Version = "2.4.2"
	pod := *n
	pod.State = "/etc/containerd/ferry-client"
	s := &Settings{Endpoint: "http://edge.example:5000"}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	found := n.Detect(t.Context())
	if len(found) != 1 {
		t.Fatalf("found %+v", found)
	}
	if _, err := pod.Configure(t.Context(), found, s); err != nil {
		t.Fatal(err)
	}
	c, err := n.Configured(found[0])
	if err != nil || !c.ByChart || len(c.Files) == 0 || c.Endpoint == nil || c.Endpoint.URL != s.Endpoint {
		t.Errorf("configured: %+v, %v", c, err)
	}
}
