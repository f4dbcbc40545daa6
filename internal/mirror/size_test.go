package mirror_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
	"ferry/internal/oci"
)

func TestManifestWithWrongSizeFailsAlone(t *testing.T) {
	for _, size := range []int{0, 10, 999, 1001, 1 << 20} {
		t.Run(fmt.Sprint(size, " for 1000"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				honest := h.upstream.image("app", "shared", 1000, "b")
				m, err := h.upstream.Manifest(t.Context(), "app", "b")
				if err != nil {
					t.Fatal(err)
				}
				parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
				if err != nil {
					t.Fatal(err)
				}
				layer := parsed.Layers[0]
				layer.Size = int64(size)
				lie := func(tag string) digest.Digest {
					m := h.upstream.Image("app", "config "+tag)
					m.Layers = []oci.Descriptor{layer}
					return h.upstream.Push("app", m, tag).Digest
				}
				lie("a")
				lie("c")
				h.rule(mirror.Spec{})
				time.Sleep(5 * time.Minute)
				if tags := h.tags("local/app"); tags["b"] != honest {
					t.Errorf("there is %v", tags)
				}
			})
		})
	}
}
