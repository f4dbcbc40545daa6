package seal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/seal"
)

func open(t *testing.T, path string) *seal.Key {
	t.Helper()
	k, err := seal.OpenKey(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTextIsBoundToItsKeyAndPurpose(t *testing.T) {
	dir := t.TempDir()
	k := open(t, filepath.Join(dir, "key"))
	sealed := k.Encrypt("purpose", "s3cr3t")
	if strings.Contains(sealed, "s3cr3t") || sealed == k.Encrypt("purpose", "s3cr3t") {
		t.Errorf("it is sealed as %q", sealed)
	}
	for name, test := range map[string]struct {
		key             *seal.Key
		sealed, purpose string
		want            string
	}{
		"the same":        {k, sealed, "purpose", "s3cr3t"},
		"after a restart": {open(t, filepath.Join(dir, "key")), sealed, "purpose", "s3cr3t"},
		"another key":     {open(t, filepath.Join(dir, "other")), sealed, "purpose", ""},
		"another purpose": {k, sealed, "other", ""},
		"a part":          {k, sealed[:len(sealed)-4], "purpose", ""},
		"another text":    {k, "A" + sealed[1:] + "AAAA", "purpose", ""},
		"no base64":       {k, "?", "purpose", ""},
	} {
		text, err := test.key.Decrypt(test.purpose, test.sealed)
		if text != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestOnlyTheOwnerReadsTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for range 2 {
		open(t, path)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := seal.OpenKey(filepath.Dir(path), "key")
	if err == nil || !strings.Contains(err.Error(), "5 bytes instead of 32") {
		t.Errorf("a short key: %v", err)
	}
}
