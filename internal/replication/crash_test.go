package replication_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/faultnet"
	"ferry/internal/gateway"
	"ferry/internal/replication"
	"ferry/internal/storage"
)

// The environment of a test binary that is a replica in a process of its own.
const (
	childDir    = "FERRY_TEST_REPLICA_DIR"
	childParent = "FERRY_TEST_REPLICA_PARENT"
)

// child follows the parent once, with its data in dir.
func child(dir, parent string) int {
	err := func() error {
		ctx := context.Background()
		s, db, err := open(ctx, dir, storage.Options{})
		if err != nil {
			return err
		}
		defer db.Close()
		e, src := replication.New(replication.Options{Storage: s, DB: db}), newClient(parent, gateway.NewTransport())
		if cursor, err := e.Cursor(ctx); err != nil {
			return err
		} else if cursor == 0 {
			if err := takeStock(ctx, e, src); err != nil {
				return err
			}
		}
		result, err := e.Sync(ctx, src)
		if err == nil && result.Failed > 0 {
			err = fmt.Errorf("Sync = %+v", result)
		}
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func newRand(seed uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
}

func TestKillLosesAtMostOneMebibyte(t *testing.T) {
	p := newParent(t)
	const size = 12 << 20
	p.image("app", [][]byte{random(1, size/2), random(2, size/3), random(3, size/6)}, "v1")
	p.network.Set(faultnet.Faults{Rate: 16 << 20}) // or the sockets' buffers take it all
	dir := t.TempDir()
	kills := 0
	for ; ; kills++ {
		if kills > 50 {
			t.Fatal("it never gets done")
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir, childParent+"="+p.address())
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var killed atomic.Bool
		limit := p.blobs.Load() + 2*storage.MaxLoss + int64(kills)*100_000
		p.onSent.Store(func(sent int64) {
			if sent > limit && !killed.Swap(true) {
				cmd.Process.Kill()
			}
		})
		err := cmd.Wait()
		if !killed.Load() {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if kills < 2 {
		t.Fatalf("it was killed %d times, the test means to do so more often", kills)
	}
	// What the link had taken in and not yet brought is lost with each kill,
	// too: the buffers of four sockets.
	const inFlight = 4 * (256 << 10)
	sent := p.blobs.Load()
	t.Logf("%d kills, %d bytes sent for %d", kills, sent, size)
	if most := int64(size + kills*(storage.MaxLoss+inFlight)); sent > most {
		t.Errorf("%d bytes were sent, at most %d should be", sent, most)
	}
	s, db, err := open(t.Context(), dir, storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	same(t, p, s)
	if _, err := read(t.Context(), s, map[digest.Digest]bool{}); err != nil {
		t.Error(err)
	}
}
