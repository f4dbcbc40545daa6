package oci

import (
	"errors"
	"strings"
	"testing"
)

func TestRegistryNamesHaveACanonicalForm(t *testing.T) {
	for text, want := range map[string]string{
		"docker.io": "docker.io", "index.docker.io": "docker.io", "registry-1.docker.io": "docker.io",
		"Registry-1.Docker.IO": "docker.io", "quay.io": "quay.io", "GHCR.io": "ghcr.io",
		"localhost:5000": "localhost:5000", "[2001:DB8::1]:5000": "[2001:db8::1]:5000", "edge": "edge",
	} {
		if got, err := ParseRegistryName(text); err != nil || got != want {
			t.Errorf("ParseRegistryName(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "docker.io/", "https://docker.io", "docker.io/library", "a..b", "-a", "a:0", "a:70000", "a:b", "user@host",
		"a b", "a\n", "../etc", "%2e", "é.example", "[::1", strings.Repeat("a", 260),
	} {
		if got, err := ParseRegistryName(text); !errors.Is(err, ErrNameInvalid) {
			t.Errorf("ParseRegistryName(%q) = %q, %v; want NAME_INVALID", text, got, err)
		}
	}
}

func TestOfficialImagesHaveTheirFullName(t *testing.T) {
	for _, c := range [][3]string{
		{"docker.io", "nginx", "library/nginx"}, {"docker.io", "grafana/loki", "grafana/loki"},
		{"quay.io", "nginx", "nginx"},
	} {
		if got := FullName(c[0], c[1]); got != c[2] {
			t.Errorf("FullName(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func FuzzParseRegistryName(f *testing.F) {
	for _, text := range []string{"docker.io", "localhost:5000", "[::1]:80", "a..b", "x/y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := ParseRegistryName(text)
		if err != nil {
			return
		}
		if again, err := ParseRegistryName(name); err != nil || again != name {
			t.Errorf("%q is %q, which is %q, %v", text, name, again, err)
		}
		if strings.ContainsAny(name, "/?#@ \n\"") {
			t.Errorf("%q is not a plain host: %q", text, name)
		}
	})
}
