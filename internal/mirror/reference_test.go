package mirror_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
	"ferry/internal/oci"
	"ferry/internal/storage/storagetest"
)

// There are three foreign layers: the source has one, lacks one, and fails for one.
func TestForeignLayersAndIndexesOfBlobsAreMirrored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		u := h.upstream
		layer := func(content string) oci.Descriptor {
			return oci.Descriptor{MediaType: "x/layer", Digest: digest.FromString(content), Size: int64(len(content))}
		}
		foreign := func(content string) oci.Descriptor {
			d := layer(content)
			d.URLs = []string{"https://example.com/x"}
			return d
		}
		m := u.manifest("app", "seed", 1000)
		m.Layers = append(m.Layers, foreign("there"), foreign("elsewhere"), foreign("nobody knows"))
		u.PushBlob("app", []byte("there"))
		u.Push("app", m, "v1")
		u.PushBlob("app", bytes.Repeat([]byte("c"), 100_000))
		u.Push("app", storagetest.Index(layer(strings.Repeat("c", 100_000))), "cache")
		u.set(func() {
			u.before = func(w http.ResponseWriter, r *http.Request) bool {
				fails := strings.HasSuffix(r.URL.Path, string(foreign("nobody knows").Digest))
				if fails {
					w.WriteHeader(http.StatusInternalServerError)
				}
				return fails
			}
		})
		h.rule(mirror.Spec{})
		if row := h.runRule(); row.Error != "" {
			t.Fatal(row.Error)
		}
		for content, want := range map[string]bool{
			"there": true, "elsewhere": false, "nobody knows": false, strings.Repeat("c", 100_000): true,
		} {
			_, err := h.content.Storage.StatBlob(t.Context(), "local/app", digest.FromString(content))
			if here := err == nil; here != want {
				t.Errorf("blob %.20s: StatBlob = %v, want it here: %v", content, err, want)
			}
		}
	})
}
