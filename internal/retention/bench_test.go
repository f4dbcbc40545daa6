package retention_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/retention"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// BenchmarkPurge purges a repository with 100,000 manifests that lost their tag, while a client pushes and
// pulls in turn. It reports the longest push and the longest pull, and by how much the heap grew.
func BenchmarkPurge(b *testing.B) {
	const many = 100_000
	for range b.N {
		b.StopTimer()
		c := storagetest.New(b, storage.Options{})
		fill(b, c.DB, many)
		image := c.Push("other", c.Image("other", "{}", []byte("layer")), "v1")
		s := retention.New(retention.Options{Storage: c.Storage, DB: c.DB, Fleet: &holders{}})
		var before, during runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		ctx, stop := context.WithCancel(b.Context())
		longest := make(chan [2]time.Duration)
		go func() { longest <- use(ctx, c.Storage, image.Digest) }()
		b.StartTimer()
		q := retention.Step{Policy: retention.Policy{Filters: []string{"app:."}, Untagged: true}}
		removed := 0
		for {
			r, err := s.Purge(b.Context(), q)
			if err != nil {
				b.Fatal(err)
			}
			removed += r.Manifests
			if q.Next = r.Next; q.Next == "" {
				break
			}
		}
		b.StopTimer()
		stop()
		waits := <-longest
		runtime.GC()
		runtime.ReadMemStats(&during)
		if removed != many {
			b.Fatalf("%d were removed", removed)
		}
		b.ReportMetric(float64(waits[0].Milliseconds()), "ms-longest-push")
		b.ReportMetric(float64(waits[1].Milliseconds()), "ms-longest-pull")
		b.ReportMetric((float64(during.HeapAlloc)-float64(before.HeapAlloc))/(1<<20), "MiB-heap")
		b.ReportMetric(many/b.Elapsed().Seconds(), "manifests/s")
	}
}

// fill writes n manifests that lost their tag to the repository app.
func fill(b *testing.B, db *metadb.DB, n int) {
	b.Helper()
	for first := 0; first < n; first += 1000 {
		err := db.Update(b.Context(), func(tx *metadb.Tx) error {
			if err := tx.TouchRepository("app", time.Now()); err != nil {
				return err
			}
			for i := first; i < first+1000; i++ {
				config := "sha256:" + hex.EncodeToString(fmt.Appendf(nil, "%032d", i))
				payload := fmt.Appendf(nil, `{"config":{"digest":%q,"size":2}}`, config)
				m := metadb.Manifest{
					Repository: "app", Digest: digest.FromBytes(payload), MediaType: oci.MediaTypeImageManifest,
					Annotations: "{}", Payload: payload, Size: int64(len(payload)), WasReferenced: true,
				}
				if _, err := tx.PutManifest(m, []metadb.Child{{Digest: config}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// use moves a tag and pulls it in turn until ctx ends, and returns the longest time of each.
func use(ctx context.Context, s *storage.Storage, d digest.Digest) (longest [2]time.Duration) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		<-tick.C
		start := time.Now()
		if s.SetTag(ctx, "other", fmt.Sprint("v", i%10), d) == nil {
			longest[0] = max(longest[0], time.Since(start))
		}
		start = time.Now()
		if _, err := s.Manifest(ctx, "other", string(d)); err == nil {
			longest[1] = max(longest[1], time.Since(start))
		}
	}
	return longest
}
