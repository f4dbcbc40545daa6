package mirror_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
	"ferry/internal/storage"
)

// The next run of a rule fetches damaged content again, although no tag moved.
func TestRuleFetchesDamagedContentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		m := h.upstream.manifest("app", "one", 300<<10)
		h.upstream.Push("app", m, "1.0")
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		for _, d := range []digest.Digest{m.Layers[0].Digest, m.Config.Digest} {
			file, _, err := h.OpenBlob(t.Context(), "local/app", d)
			if err != nil {
				t.Fatal(err)
			}
			path := file.(*os.File).Name()
			file.Close()
			if err := os.WriteFile(path, []byte("spoilt"), 0o600); err != nil {
				t.Fatal(err)
			}
			if reason, err := h.VerifyBlob(t.Context(), d, storage.Unpaced); reason == "" || err != nil {
				t.Fatalf("VerifyBlob = %q, %v", reason, err)
			}
			if row := h.runRule(); row.Error != "" {
				t.Error(row.Error)
			}
			if reason, err := h.VerifyBlob(t.Context(), d, storage.Unpaced); reason != "" || err != nil {
				t.Errorf("after the run: %q, %v", reason, err)
			}
			if has, err := h.HasBlob(t.Context(), d); !has || err != nil {
				t.Errorf("HasBlob = %v, %v", has, err)
			}
		}
	})
}
