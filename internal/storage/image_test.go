package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

func TestImagesBecomeVisibleTogetherOrNotAtAll(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		content := []byte("shared")
		blob := digest.FromBytes(content)
		if err := f.PutBlob(ctx, "base", blob, content); err != nil {
			t.Fatal(err)
		}
		image := func(repository string) storage.Image {
			payload := fmt.Appendf(nil,
				`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[],`+
					`"annotations":{"of":%q}}`,
				oci.MediaTypeImageManifest, blob, len(content), repository)
			return storage.Image{
				Repository: repository, Blobs: []digest.Digest{blob}, Root: digest.FromBytes(payload),
				Tags:      []string{"v1", "v2"},
				Manifests: []storage.Put{{Repository: repository, Payload: payload}},
			}
		}
		all := []storage.Image{image("a"), image("b")}
		failure := errors.New("the list cannot be written")
		bad := image("c")
		bad.Blobs = nil // the manifest's config is not in its repository
		for name, step := range map[string]struct {
			images []storage.Image
			also   error
			want   error
		}{
			"a child is absent":  {append(all[:2:2], bad), nil, oci.ErrManifestBlobUnknown},
			"what is more fails": {all, failure, failure},
			"a blob is not here": {[]storage.Image{all[0],
				{Repository: "c", Blobs: []digest.Digest{digest.FromString("x")}}}, nil, oci.ErrBlobUnknown},
			"a tag has no content": {[]storage.Image{all[0],
				{Repository: "c", Root: digest.FromString("x"), Tags: []string{"v1"}}}, nil, oci.ErrManifestUnknown},
		} {
			err := f.PutImages(ctx, step.images, func(*metadb.Tx) error { return step.also })
			if !errors.Is(err, step.want) {
				t.Errorf("%s: %v, want %v", name, err, step.want)
			}
			if has, err := f.HasManifest(ctx, "a", all[0].Root); has || err != nil {
				t.Errorf("%s: an image is visible: %v", name, err)
			}
		}
		if err := f.PutImages(ctx, all, func(*metadb.Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
		for _, im := range all {
			for _, tag := range im.Tags {
				if m, err := f.Manifest(ctx, im.Repository, tag); err != nil || m.Digest != im.Root {
					t.Errorf("%s:%s: %v", im.Repository, tag, err)
				}
			}
		}
		moved := storage.Image{Repository: "a", Root: all[0].Root, Tags: []string{"v3"}, KeepTags: true}
		if err := f.PutImages(ctx, []storage.Image{moved}, func(*metadb.Tx) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}
