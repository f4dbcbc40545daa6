package layout

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

func TestStoredManifestIsFoundByItsTag(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	put := func(content string) oci.Descriptor {
		d, err := l.Put(oci.MediaTypeImageManifest,
			func(w io.Writer) error { _, err := io.WriteString(w, content); return err })
		if err != nil {
			t.Fatal(err)
		}
		if want := digest.FromString(content); d.Digest != want || d.Size != int64(len(content)) {
			t.Fatalf("put %q: %+v", content, d)
		}
		return d
	}
	one, two := put("one"), put("two")
	for _, step := range []struct {
		d   oci.Descriptor
		tag string
	}{{one, "v1"}, {two, "v2"}, {two, "v1"}} {
		if err := l.Tag(step.d, step.tag); err != nil {
			t.Fatal(err)
		}
	}
	l, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1", "v2"} {
		d, err := l.Resolve(tag)
		if err != nil || d.Digest != two.Digest {
			t.Errorf("resolve %s = %s, %v", tag, d.Digest, err)
		}
	}
	f, err := l.Open(one.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "one" {
		t.Errorf("read %q, %v", text, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".blob-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestReferrersDoNotHideTheOnlyTag(t *testing.T) {
	l, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	put := func(v string) oci.Descriptor {
		d, err := l.PutJSON(oci.MediaTypeImageManifest, v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	image, sbom := put("image"), put("sbom")
	if err := errors.Join(l.Tag(image, "v1"), l.Add(sbom), l.Add(sbom)); err != nil {
		t.Fatal(err)
	}
	if d, err := l.Resolve(""); err != nil || d.Digest != image.Digest {
		t.Errorf("the only tag is %s, %v", d.Digest, err)
	}
	if all, err := l.Manifests(); err != nil || len(all) != 2 {
		t.Errorf("the layout lists %v, %v", all, err)
	}
}

func TestErrorDescribesTheFaultOfALayout(t *testing.T) {
	const mark, version = `{"imageLayoutVersion":"1.0.0"}`, "oci-layout"
	for _, test := range []struct {
		name  string
		files map[string]string
		tag   string
		want  string
	}{
		{"no layout", nil, "v1", "it has no file oci-layout"},
		{"another version", map[string]string{version: `{"imageLayoutVersion":"9"}`}, "v1", `its version is "9"`},
		{"no JSON", map[string]string{version: `{`}, "v1", "oci-layout is not what it should be"},
		{"no index", map[string]string{version: mark}, "v1", "index.json"},
		{"an index that is too large", map[string]string{version: mark,
			"index.json": strings.Repeat(" ", oci.MaxManifestSize+1)}, "v1", "index.json is larger than"},
		{"no image", map[string]string{version: mark, "index.json": `{}`}, "v1", "has no image"},
		{"no such tag", map[string]string{version: mark,
			"index.json": `{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v2"}}]}`}, "v1",
			`no image "v1": it has v2`},
		{"several", map[string]string{version: mark, "index.json": `{"manifests":[{},{}]}`}, "",
			"has several images: none with a tag"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l, err := Open(dir)
			if err == nil {
				_, err = l.Resolve(test.tag)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %q in it", err, test.want)
			}
		})
	}
}

func TestDigestCannotLeaveTheLayout(t *testing.T) {
	l, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{"../../etc/passwd", "sha256:../../../etc/passwd", "sha256:abc", ""} {
		if f, err := l.Open(d); err == nil {
			f.Close()
			t.Errorf("opened %q", d)
		}
	}
	if _, err := l.Open(digest.FromString("absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent blob: %v", err)
	}
}
