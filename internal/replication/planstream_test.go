package replication_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/replication"
)

func TestStoppedSyncKeepsReceivedSmallBlobs(t *testing.T) {
	for _, at := range []int{100, 110, 120, 125} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			p := newParent(t)
			const images = 30
			for i := range images {
				layers := [][]byte{}
				for j := range 8 {
					layers = append(layers, randomBytes(uint64(i*100+j), 300))
				}
				p.image("app", layers, fmt.Sprintf("v%02d", i))
			}
			r := newReplica(t, p, replication.Options{})
			r.follow()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var received []digest.Digest
			src := &planSource{Source: r.source, edit: func(e replication.PlanEntry) (replication.PlanEntry, error) {
				if e.Blob != nil && e.Blob.Data != nil {
					received = append(received, e.Blob.Digest)
					if len(received) == at {
						cancel()
					}
				}
				return e, nil
			}}
			_, err := r.Sync(ctx, src)
			kept := 0
			for _, d := range received {
				has, err := r.HasBlob(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				if has {
					kept++
				}
			}
			if len(received)-kept > 1 { // the last one may be too late
				t.Errorf("%d small blobs were received, and %d are stored (%v)", len(received), kept, err)
			}
		})
	}
}
