package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/layout"
	"ferry/internal/oci"
)

// buildImage makes an image of small files that stand for the programs.
func buildImage(t *testing.T) (*builder, oci.Descriptor) {
	t.Helper()
	b := &builder{bin: t.TempDir(), out: filepath.Join(t.TempDir(), "image"), version: "1.0.0",
		commit: "0123456789abcdef0123456789abcdef01234567", created: time.Unix(1_900_000_000, 0).UTC()}
	for _, p := range platforms {
		program := filepath.Join(b.bin, "ferry-linux-"+p.Architecture)
		sbom := filepath.Join(b.bin, p.Architecture+".cdx.json")
		if err := errors.Join(os.WriteFile(program, []byte("program of "+p.Architecture), 0o600),
			os.WriteFile(sbom, []byte(`{"bomFormat":"CycloneDX"}`), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := b.build()
	if err != nil {
		t.Fatal(err)
	}
	return b, d
}

// files returns the content of all files below dir by their paths.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func decode[T any](t *testing.T, l *layout.Layout, d digest.Digest) (v T) {
	t.Helper()
	f, err := l.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSameProgramsGiveTheSameImage(t *testing.T) {
	one, first := buildImage(t)
	two, second := buildImage(t)
	if first.Digest != second.Digest {
		t.Errorf("digests %s and %s", first.Digest, second.Digest)
	}
	if diff := cmp.Diff(files(t, one.out), files(t, two.out)); diff != "" {
		t.Errorf("layouts differ:\n%s", diff)
	}
}

func TestImageRunsWithoutRoot(t *testing.T) {
	b, d := buildImage(t)
	l, err := layout.Open(b.out)
	if err != nil {
		t.Fatal(err)
	}
	index := decode[v1.Index](t, l, d.Digest)
	if len(index.Manifests) != len(platforms) {
		t.Fatalf("%d platforms", len(index.Manifests))
	}
	for i, m := range index.Manifests {
		manifest := decode[v1.Manifest](t, l, m.Digest)
		config := decode[v1.Image](t, l, manifest.Config.Digest)
		if diff := cmp.Diff(platforms[i], config.Platform); diff != "" || config.Config.User != "65532:65532" {
			t.Errorf("user %s, platform:\n%s", config.Config.User, diff)
		}
		f, err := l.Open(manifest.Layers[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		plain, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		hash := digest.SHA256.Digester()
		found := map[string]*tar.Header{}
		content := io.TeeReader(plain, hash.Hash())
		for r := tar.NewReader(content); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			found[h.Name] = h
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			t.Fatal(err)
		}
		if hash.Digest() != config.RootFS.DiffIDs[0] {
			t.Errorf("the layer is %s, the config has %s", hash.Digest(), config.RootFS.DiffIDs[0])
		}
		if h := found["usr/bin/ferry"]; h == nil || h.Mode != 0o755 || h.Uid != 0 {
			t.Errorf("program: %+v", h)
		}
		if h := found["var/lib/ferry/"]; h == nil || h.Mode != 0o700 || h.Uid != user {
			t.Errorf("data directory: %+v", h)
		}
	}
}

func TestImageHasSBOMsAndProvenance(t *testing.T) {
	b, d := buildImage(t)
	l, err := layout.Open(b.out)
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	index := decode[v1.Index](t, l, d.Digest)
	got := map[digest.Digest]string{} // the types of referrers by subject
	for _, m := range all {
		if m.Digest == d.Digest {
			continue
		}
		manifest := decode[v1.Manifest](t, l, m.Digest)
		got[manifest.Subject.Digest] = manifest.ArtifactType
		if manifest.ArtifactType != statementType {
			continue
		}
		s := decode[statement](t, l, manifest.Layers[0].Digest)
		if s.PredicateType != provenanceType || len(s.Subject) != 1+len(platforms) ||
			s.Subject[0].Digest["sha256"] != d.Digest.Encoded() {
			t.Errorf("statement: %+v", s)
		}
	}
	want := map[digest.Digest]string{d.Digest: statementType}
	for _, m := range index.Manifests {
		want[m.Digest] = sbomType
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("referrers (-want +got):\n%s", diff)
	}
}
