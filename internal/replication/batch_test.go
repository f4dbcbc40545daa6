package replication_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/faultnet"
	"ferry/internal/gateway"
	"ferry/internal/replication"
)

// A batchSource counts and alters the batches of a parent.
type batchSource struct {
	*gateway.Client
	batches, single atomic.Int64
	alterBlob       func(i int, content io.Reader) (io.Reader, error)
	onResponse      func() // called for every response
}

func (b *batchSource) Batch(ctx context.Context, want []replication.Ref,
	fn func(i int, size int64, content io.Reader) error) error {
	b.batches.Add(1)
	return b.Client.Batch(ctx, want, func(i int, size int64, content io.Reader) (err error) {
		if b.onResponse != nil {
			b.onResponse()
		}
		if b.alterBlob != nil {
			if content, err = b.alterBlob(i, content); err != nil {
				return err
			}
		}
		return fn(i, size, content)
	})
}

func (b *batchSource) Blob(ctx context.Context, repository string, d digest.Digest, offset,
	length int64) (io.ReadCloser, int64, error) {
	b.single.Add(1)
	body, start, err := b.Client.Blob(ctx, repository, d, offset, length)
	if err == nil && b.onResponse != nil {
		b.onResponse()
	}
	return body, start, err
}

// smallImages pushes images with one layer that is too large for a plan and small enough for
// a batch.
func (p *parent) smallImages(n int) {
	for i := range n {
		p.image("app", [][]byte{randomBytes(uint64(i), 20_000)}, fmt.Sprintf("v%d", i))
	}
}

func TestSmallLayersAreFetchedInBatches(t *testing.T) {
	p := newParent(t)
	const images = 100
	p.smallImages(images)
	r := newReplica(t, p, replication.Options{Connections: 4})
	r.follow()
	src := &batchSource{Client: r.source}
	result, err := r.Sync(t.Context(), src)
	if err != nil || result.Synced != images {
		t.Fatalf("Sync = %+v, %v", result, err)
	}
	assertInSync(t, p, r.Storage)
	if n := src.batches.Load() + src.single.Load(); n > images/2 {
		t.Errorf("%d requests for %d layers", n, images)
	}
}

func TestMissingBatchEntriesAreFetchedSeparately(t *testing.T) {
	p := newParent(t)
	const images = 60
	p.smallImages(images)
	r := newReplica(t, p, replication.Options{Connections: 4})
	r.follow()
	var mu sync.Mutex
	count := 0
	src := &batchSource{Client: r.source, alterBlob: func(i int, content io.Reader) (io.Reader, error) {
		mu.Lock()
		defer mu.Unlock()
		switch count++; count % 4 {
		case 1:
			return nil, nil // the parent does not send the blob in a batch
		case 2:
			return io.MultiReader(io.LimitReader(content, 1000), brokenReader{}), nil
		}
		return content, nil
	}}
	result, err := r.Sync(t.Context(), src)
	if err != nil || result.Synced != images {
		t.Fatalf("Sync = %+v, %v", result, err)
	}
	assertInSync(t, p, r.Storage)
	if limit := int64(images*20_000 + images*500); result.Received > limit {
		t.Errorf("%d bytes were received, want at most %d", result.Received, limit)
	}
	if src.single.Load() == 0 {
		t.Error("no blob was fetched separately; want some")
	}
}

// A brokenReader fails like a cut connection.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

func TestFirstLayerFlowsWithinThreeRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const roundTrip = 600 * time.Millisecond
		images := 500
		if testing.Short() {
			images = 100
		}
		p := newPipeParent(t)
		var far atomic.Bool
		dial := p.dial
		p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if far.Load() {
				time.Sleep(roundTrip) // for the handshake
			}
			return dial(ctx, network, address)
		}
		p.image("app", [][]byte{randomBytes(9999, 20_000)}, "first")
		r := newReplica(t, p, replication.Options{})
		r.follow()
		r.sync() // opens the connections
		p.smallImages(images)
		r.follow()
		p.network.Set(faultnet.Faults{Delay: roundTrip})
		far.Store(true)
		var first time.Duration
		var once sync.Once
		start := time.Now()
		src := &batchSource{Client: r.source, onResponse: func() { once.Do(func() { first = time.Since(start) }) }}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := r.Sync(ctx, src)
			done <- err
		}()
		time.Sleep(4 * roundTrip)
		cancel()
		<-done
		if first == 0 || first > 3*roundTrip {
			t.Errorf("the first layer began to flow after %v, want it within three round trips of %v", first, roundTrip)
		}
	})
}
