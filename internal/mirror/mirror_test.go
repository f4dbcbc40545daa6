package mirror_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
)

func TestLocationsAreParsedAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]mirror.Location{
		"docker.io/library/alpine":   {Address: "https://registry-1.docker.io", Repository: "library/alpine"},
		"docker.io/alpine":           {Address: "https://registry-1.docker.io", Repository: "library/alpine"},
		"docker.io/acme/app":         {Address: "https://registry-1.docker.io", Repository: "acme/app"},
		"ghcr.io/acme/app":           {Address: "https://ghcr.io", Repository: "acme/app"},
		"localhost:5000/app":         {Address: "https://localhost:5000", Repository: "app"},
		"http://localhost:5000/a/b":  {Address: "http://localhost:5000", Repository: "a/b"},
		"https://[::1]:5000/app":     {Address: "https://[::1]:5000", Repository: "app"},
		"":                           {},
		"alpine":                     {},
		"library/alpine":             {},
		"docker.io/alpine:3":         {},
		"ftp://ghcr.io/acme/app":     {},
		"user@ghcr.io/acme/app":      {},
		"http://user:pw@ghcr.io/app": {},
		"ghcr.io/Acme/app":           {},
		"ghcr.io/../app":             {},
	} {
		got, err := mirror.ParseLocation(text)
		if got != want && err == nil || (err == nil) != (want != mirror.Location{}) {
			t.Errorf("ParseLocation(%q) = %v, %v", text, got, err)
		}
	}
	d := digest.FromString("x")
	app := mirror.Location{Address: "https://ghcr.io", Repository: "app"}
	hub := mirror.Location{Address: "https://registry-1.docker.io", Repository: "a/b"}
	for text, want := range map[string]mirror.Image{
		"ghcr.io/app":                  {Location: app, Tag: "latest"},
		"ghcr.io/app:1":                {Location: app, Tag: "1"},
		"ghcr.io/app@" + string(d):     {Location: app, Digest: d},
		"ghcr.io/app:1@" + string(d):   {Location: app, Tag: "1", Digest: d},
		"docker.io/a/b:1@" + string(d): {Location: hub, Tag: "1", Digest: d},
	} {
		if got, err := mirror.ParseImage(text); got != want || err != nil {
			t.Errorf("ParseImage(%q) = %v, %v", text, got, err)
		}
	}
}

func FuzzParseImage(f *testing.F) {
	for _, text := range []string{
		"docker.io/alpine", "http://[::1]:5000/a/b:1", "ghcr.io/app@sha256:" + strings.Repeat("0", 64),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		i, err := mirror.ParseImage(text)
		if err != nil {
			return
		}
		written := i.Address + "/" + i.Repository
		if i.Tag != "" {
			written += ":" + i.Tag
		}
		if i.Digest != "" {
			written += "@" + string(i.Digest)
		}
		if again, err := mirror.ParseImage(written); err != nil || again != i {
			t.Errorf("%q is %v, and %q is %v, %v", text, i, written, again, err)
		}
	})
}

func TestAnInvalidSpecIsRefused(t *testing.T) {
	good := mirror.Spec{Source: "ghcr.io/acme/app", Repository: "acme/app", Schedule: "0 * * * *", Window: "PT2H",
		TagFilters: []string{">=1"}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*mirror.Spec){
		"source":     func(s *mirror.Spec) { s.Source = "app" },
		"repository": func(s *mirror.Spec) { s.Repository = "Acme" },
		"schedule":   func(s *mirror.Spec) { s.Schedule = "hourly" },
		"window":     func(s *mirror.Spec) { s.Window = "2h" },
		"filters":    func(s *mirror.Spec) { s.TagFilters = []string{"/(/"} },
		"ca":         func(s *mirror.Spec) { s.CA = "-----BEGIN" },
	} {
		v := good
		if spoil(&v); v.Check() == nil {
			t.Errorf("a bad %s is not refused", name)
		}
	}
}

func TestAPasswordIsReadableOnlyForItsRegistryWithItsKey(t *testing.T) {
	dir := t.TempDir()
	s, err := mirror.OpenKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, b := mirror.Location{Address: "https://a.example"}, mirror.Location{Address: "https://b.example"}
	sealed := s.Encrypt(a, "secret")
	if strings.Contains(sealed, "secret") || sealed == s.Encrypt(a, "secret") {
		t.Errorf("the password is kept as %q", sealed)
	}
	if s, err = mirror.OpenKey(dir); err != nil {
		t.Fatal(err)
	}
	if text, err := s.Decrypt(a, sealed); text != "secret" || err != nil {
		t.Errorf("Open = %q, %v", text, err)
	}
	if text, err := s.Decrypt(b, sealed); err == nil {
		t.Errorf("another registry gets %q", text)
	}
	other, err := mirror.OpenKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := other.Decrypt(a, sealed); err == nil {
		t.Errorf("another key opens %q", text)
	}
	if text, err := s.Decrypt(a, s.Encrypt(a, "")); text != "" || err != nil {
		t.Errorf("no password is %q, %v", text, err)
	}
	path := filepath.Join(dir, mirror.KeyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file is %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.OpenKey(dir); err == nil {
		t.Error("half a key is taken")
	}
}
