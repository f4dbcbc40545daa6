package oci

import (
	"errors"
	"strings"
	"testing"
)

const (
	sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sha512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce" +
		"47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestRepositoryNamesFollowTheSpecification(t *testing.T) {
	for _, name := range []string{"a", "0", "a/b", "a/b/c", "a.b", "a_b", "a__b", "a-b", "a---b", "team/app-1.2_x",
		"library", strings.Repeat("a", 255)} {
		if err := CheckRepository(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "/", "a/", "/a", "a//b", "A", "a/B", ".a", "a.", "-a", "a-", "a..b", "a___b", "a_.b", "a b", "a\n", "a\x00",
		"ä", "a:b", "a@b", "..", "a/../b",
		"_catalog", "a/_tags", strings.Repeat("a", 256), strings.Repeat("a/", 5000),
	} {
		if err := CheckRepository(name); !errors.Is(err, ErrNameInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestTagsFollowTheSpecification(t *testing.T) {
	for _, tag := range []string{"a", "A", "1", "_", "_x", "v1.2.3-rc_1", strings.Repeat("a", 128)} {
		if err := CheckTag(tag); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
	for _, tag := range []string{"", ".a", "-a", "a b", "a:b", "a/b", "a@b", "a\n", "\na", "ä",
		strings.Repeat("a", 129)} {
		if err := CheckTag(tag); !errors.Is(err, ErrTagInvalid) {
			t.Errorf("%q: %v", tag, err)
		}
	}
}

func TestDigestsHaveAKnownAlgorithmAndLowerCase(t *testing.T) {
	for _, d := range []string{sha256, sha512} {
		if got, err := ParseDigest(d); err != nil || string(got) != d {
			t.Errorf("%s: %s, %v", d, got, err)
		}
	}
	for _, d := range []string{
		"", ":", "sha256", "sha256:", strings.ToUpper(sha256), "SHA256" + sha256[6:], sha256[:70], sha256 + "0",
		sha512[:71], "sha512" + sha256[6:],
		"sha384:" + strings.Repeat("a", 96), "md5:d41d8cd98f00b204e9800998ecf8427e", " " + sha256, sha256 + "\n",
		"sha256:../" + strings.Repeat("a", 61),
		"sha256:" + strings.Repeat("g", 64), "sha256+b64:" + strings.Repeat("a", 64), strings.Repeat("a", 1<<20),
	} {
		got, err := ParseDigest(d)
		if !errors.Is(err, ErrDigestInvalid) || got != "" {
			t.Errorf("%.80q: %s, %v", d, got, err)
		}
		if e := AsError(err); e != nil && len(e.Message) > 300 {
			t.Errorf("a message of %d bytes", len(e.Message))
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	for _, d := range []string{sha256, sha512, "sha256:", "sha512:abc", ":"} {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		if err != nil {
			if !errors.Is(err, ErrDigestInvalid) {
				t.Fatal(err)
			}
			return
		}
		if string(d) != s || d.Validate() != nil || !IsDigest(s) || CheckTag(s) == nil {
			t.Fatalf("%q is %q", s, d)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, name := range []string{"a", "a/b", "a__b", "A", "..", "a_.b", "v1.0"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckRepository(s) == nil &&
			(len(s) == 0 || len(s) > MaxRepositoryLength || strings.ContainsAny(s, ":@\\ \n") ||
				strings.Contains(s, "..") || strings.Contains(s, "//")) {
			t.Fatalf("repository %q", s)
		}
		if CheckTag(s) == nil &&
			(len(s) == 0 || len(s) > MaxTagLength || strings.ContainsAny(s, "/:@\\ \n") || s[0] == '.') {
			t.Fatalf("tag %q", s)
		}
	})
}
