package oci

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReferencesAreParsedAsClientsDo(t *testing.T) {
	for text, want := range map[string]Reference{
		"app":                      {Repository: "app"},
		"team/app":                 {Repository: "team/app"},
		"app:v1":                   {Repository: "app", Tag: "v1"},
		"app:5000":                 {Repository: "app", Tag: "5000"},
		"team/app@" + sha256:       {Repository: "team/app", Digest: sha256},
		"team/app:v1@" + sha512:    {Repository: "team/app", Tag: "v1", Digest: sha512},
		"localhost/app":            {Host: "localhost", Repository: "app"},
		"localhost:5000/a/b:v1":    {Host: "localhost:5000", Repository: "a/b", Tag: "v1"},
		"registry.example.com/app": {Host: "registry.example.com", Repository: "app"},
		"10.0.0.1:5000/app":        {Host: "10.0.0.1:5000", Repository: "app"},
		"[::1]:5000/app:v1":        {Host: "[::1]:5000", Repository: "app", Tag: "v1"},
		"[fe80::1]/app":            {Host: "[fe80::1]", Repository: "app"},
		"HOST/app":                 {Host: "HOST", Repository: "app"},
		"host-1.local:443/a.b/c_d:_x@" + sha256: {Host: "host-1.local:443", Repository: "a.b/c_d", Tag: "_x",
			Digest: sha256},
	} {
		got, err := ParseReference(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	for text, want := range map[string]*Error{
		"": ErrNameInvalid, "/": ErrNameInvalid, ":v1": ErrNameInvalid, "@" + sha256: ErrNameInvalid,
		"App": ErrNameInvalid, "host.com/": ErrNameInvalid,
		"host.com/App": ErrNameInvalid, "https://host.com/app": ErrNameInvalid, "host:x/app": ErrNameInvalid,
		"host:0/app":     ErrNameInvalid,
		"host:65536/app": ErrNameInvalid, "host:99999999999/app": ErrNameInvalid, "host:/app": ErrNameInvalid,
		"[::1/app": ErrNameInvalid, "-.x/app": ErrNameInvalid,
		"a..b/app": ErrNameInvalid, "user@host.com/app": ErrDigestInvalid, "app:": ErrTagInvalid,
		"app:v 1": ErrTagInvalid, "app:v1:v2": ErrTagInvalid,
		"a:b/c": ErrNameInvalid, "app@": ErrDigestInvalid, "app@sha256:abc": ErrDigestInvalid,
		"app@v1": ErrDigestInvalid, "app@" + sha256 + "@" + sha256: ErrDigestInvalid,
		strings.Repeat("a", 1<<20): ErrNameInvalid, "app\n": ErrNameInvalid,
	} {
		if got, err := ParseReference(text); !errors.Is(err, want) {
			t.Errorf("%.80q: %+v, %v, want %v", text, got, err, want.Code)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"app", "localhost:5000/a/b:v1@" + sha256, "[::1]:1/a", "HOST/app:x", "a..b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if AsError(err) == nil {
				t.Fatal(err)
			}
			return
		}
		written := r.Repository
		if r.Host != "" {
			written = r.Host + "/" + written
		}
		if r.Tag != "" {
			written += ":" + r.Tag
		}
		if r.Digest != "" {
			written += "@" + string(r.Digest)
		}
		if written != s {
			t.Fatalf("%q is read as %+v", s, r)
		}
	})
}
