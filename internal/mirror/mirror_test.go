package mirror_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/mirror"
)

func TestInvalidSpecIsRefused(t *testing.T) {
	good := mirror.Spec{Source: "ghcr.io/acme/app", Repository: "acme/app", Schedule: "0 * * * *", Window: "PT2H",
		TagFilters: []string{">=1"}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*mirror.Spec){
		"source":     func(s *mirror.Spec) { s.Source = "app" },
		"repository": func(s *mirror.Spec) { s.Repository = "Acme" },
		"schedule":   func(s *mirror.Spec) { s.Schedule = "hourly" },
		"window":     func(s *mirror.Spec) { s.Window = "2h" },
		"filters":    func(s *mirror.Spec) { s.TagFilters = []string{"/(/"} },
		"ca":         func(s *mirror.Spec) { s.CA = "-----BEGIN" },
	} {
		v := good
		if change(&v); v.Check() == nil {
			t.Errorf("a bad %s is not refused", name)
		}
	}
}

func TestPasswordIsBoundToItsRegistryAndKey(t *testing.T) {
	dir := t.TempDir()
	s, err := mirror.OpenKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, b := mirror.Location{Address: "https://a.example"}, mirror.Location{Address: "https://b.example"}
	sealed := s.Encrypt(a, "secret")
	if strings.Contains(sealed, "secret") || sealed == s.Encrypt(a, "secret") {
		t.Errorf("the password is stored as %q", sealed)
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
		t.Error("a truncated key is accepted")
	}
}
