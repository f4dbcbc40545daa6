package replication_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/faultnet"
	"ferry/internal/gateway"
	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// The environment variables of a test binary that runs as a replica.
const (
	replicaDirEnv    = "FERRY_TEST_REPLICA_DIR"
	replicaParentEnv = "FERRY_TEST_REPLICA_PARENT"
)

// runReplicaProcess syncs once from the parent into dir, and returns the exit code.
func runReplicaProcess(dir, parent string) int {
	err := func() error {
		ctx := context.Background()
		s, db, err := storagetest.Open(ctx, dir, storage.Options{})
		if err != nil {
			return err
		}
		defer db.Close()
		e, src := replication.New(replication.Options{Storage: s, DB: db}), newClient(parent, gateway.NewTransport())
		if err := relist(ctx, e, src); err != nil {
			return err
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

// replicaProcess returns a command that syncs from p into dir. It is killed when ctx ends.
func replicaProcess(ctx context.Context, p *parent, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), replicaDirEnv+"="+dir, replicaParentEnv+"="+p.address())
	cmd.Stderr = os.Stderr
	return cmd
}

func newRand(seed uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
}

func TestKillLosesAtMostOneMebibyte(t *testing.T) {
	p := newParent(t)
	const size = 12 << 20
	p.image("app", [][]byte{randomBytes(1, size/2), randomBytes(2, size/3), randomBytes(3, size/6)}, "v1")
	p.network.Set(faultnet.Faults{Rate: 8 << 20}) // without a limit, socket buffers would take everything
	dir := t.TempDir()
	kills := 0
	for ; ; kills++ {
		if kills > 50 {
			t.Fatal("the sync does not complete")
		}
		cmd := replicaProcess(t.Context(), p, dir)
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
		t.Fatalf("the process was killed %d times, want at least 2", kills)
	}
	// Each kill also loses bytes in socket buffers: those of an eighth of a second.
	const inFlight = 1 << 20
	sent := p.blobs.Load()
	t.Logf("%d kills, %d bytes sent for %d", kills, sent, size)
	if limit := int64(size + kills*(storage.MaxLoss+inFlight)); sent > limit {
		t.Errorf("%d bytes were sent, want at most %d", sent, limit)
	}
	s, db, err := storagetest.Open(t.Context(), dir, storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	assertInSync(t, p, s)
	if _, err := readContent(t.Context(), s, map[digest.Digest]bool{}); err != nil {
		t.Error(err)
	}
}

// The kill comes at a random moment: between two writes, or during one.
func TestKilledSyncLeavesWholeImagesAndResumes(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	w := &randomParent{parent: newParent(t), rng: rand.New(rand.NewPCG(1, 2)), maxLayer: 1 << 20}
	dir := t.TempDir()
	run := func(ctx context.Context) error { return replicaProcess(ctx, w.parent, dir).Run() }
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
	killed := 0
	for range rounds {
		for range 4 {
			w.push(fmt.Sprintf("app/%d", w.rng.IntN(3)), fmt.Sprintf("v%d", w.rng.IntN(3)))
			w.changeSomething()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+w.rng.IntN(300))*time.Millisecond)
		if err := run(ctx); err != nil {
			if ctx.Err() == nil {
				t.Fatal(err)
			}
			killed++
		}
		cancel()
		s, db, err := storagetest.Open(t.Context(), dir, storage.Options{Grace: grace})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readContent(t.Context(), s, map[digest.Digest]bool{}); err != nil {
			t.Errorf("after a kill: %v", err)
		}
		if _, err := s.Collect(t.Context()); err != nil {
			t.Errorf("after a kill: %v", err)
		}
		db.Close()
	}
	t.Logf("%d of %d processes were killed", killed, rounds)
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, db, err := storagetest.Open(t.Context(), dir, storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	assertInSync(t, w.parent, s)
}
