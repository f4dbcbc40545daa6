package mirror

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestLocationsAreParsedAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]Location{
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
		got, err := ParseLocation(text)
		if got != want && err == nil || (err == nil) != (want != Location{}) {
			t.Errorf("ParseLocation(%q) = %v, %v", text, got, err)
		}
	}
	d := digest.FromString("x")
	app := Location{Address: "https://ghcr.io", Repository: "app"}
	hub := Location{Address: "https://registry-1.docker.io", Repository: "a/b"}
	for text, want := range map[string]Image{
		"ghcr.io/app":                  {Location: app, Tag: "latest"},
		"ghcr.io/app:1":                {Location: app, Tag: "1"},
		"ghcr.io/app@" + string(d):     {Location: app, Digest: d},
		"ghcr.io/app:1@" + string(d):   {Location: app, Tag: "1", Digest: d},
		"docker.io/a/b:1@" + string(d): {Location: hub, Tag: "1", Digest: d},
	} {
		if got, err := parseImage(text); got != want || err != nil {
			t.Errorf("parseImage(%q) = %v, %v", text, got, err)
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
		i, err := parseImage(text)
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
		if again, err := parseImage(written); err != nil || again != i {
			t.Errorf("%q is %v, and %q is %v, %v", text, i, written, again, err)
		}
	})
}

func TestCredentialsInSourceAreRefusedAndNotRepeated(t *testing.T) {
	for _, source := range []string{
		"https://user:secret@ghcr.io/acme/app:1", "http://user:secret@127.0.0.1:5000/app", "user:secret@ghcr.io/app",
		"https://user:se/cr@et@ghcr.io/app:1", "ftp://user:secret@ghcr.io/app", "https://user:secret@ghcr.io",
	} {
		_, err := parseImage(source)
		if err == nil || !strings.Contains(err.Error(), "credentials do not belong in the source: use --username") ||
			strings.Contains(err.Error(), "user:") {
			t.Errorf("parseImage(%q) = %v", source, err)
		}
	}
}
