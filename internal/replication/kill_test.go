package replication_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// errKilled ends the Sync of a killed replica.
var errKilled = errors.New("the replica was killed")

// syncAndKillAfter starts to sync, and kills the replica after d.
func (s *restartableReplica) syncAndKillAfter(d time.Duration) {
	s.t.Helper()
	ctx, kill := context.WithCancelCause(s.t.Context())
	var g errgroup.Group
	g.Go(func() error {
		_, err := s.Sync(ctx, s.source)
		return err
	})
	time.Sleep(d)
	s.kill(func() {
		kill(errKilled)
		s.allowEnd(g.Wait(), errKilled)
	})
}

// kill simulates a kill of the replica's process: the replica restarts on a copy of its disk,
// without its memory, and must still have all content. endOld must end whatever still runs in
// the old replica.
//
// The copy is made while every goroutine of the bubble waits for the network, the clock or
// another goroutine, so that no file is being written.
func (s *restartableReplica) kill(endOld func()) {
	s.t.Helper()
	before := s.content()
	synctest.Wait()
	old, dir := s.dir, s.t.TempDir()
	copyDirectory(s.t, old, dir)
	unchanged := s.content() // content that changed since before need not be in the copy
	endOld()
	s.stop()
	if err := os.RemoveAll(old); err != nil {
		s.t.Fatal(err)
	}
	s.dir = dir
	s.start()
	s.checkKept(before, unchanged, s.content())
}

// content returns the replica's content. Every tag must be whole.
func (s *restartableReplica) content() content {
	s.t.Helper()
	c, err := readContentWith(s.t.Context(), s.Storage, map[digest.Digest]bool{}, s.children)
	if err != nil {
		s.t.Errorf("a client of the replica: %v", err)
	}
	return c
}

// checkKept fails the test unless after has all content that before and unchanged have.
func (s *restartableReplica) checkKept(before, unchanged, after content) {
	s.t.Helper()
	tags := maps.Clone(before.tags)
	maps.DeleteFunc(tags, func(name string, d digest.Digest) bool { return unchanged.tags[name] != d })
	for name, d := range tags {
		if after.tags[name] != d {
			s.t.Errorf("the kill moved %s from %s to %q", name, d, after.tags[name])
		}
	}
	manifests := maps.Clone(before.manifests)
	maps.DeleteFunc(manifests, func(name, _ string) bool { _, has := unchanged.manifests[name]; return !has })
	maps.DeleteFunc(after.manifests, func(name, _ string) bool { _, had := manifests[name]; return !had })
	if diff := cmp.Diff(manifests, after.manifests); diff != "" {
		s.t.Errorf("the kill lost manifests (-before +after):\n%s", diff)
	}
}

// copyDirectory copies a data directory in the state in which a kill leaves it.
func copyDirectory(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ferry.db", "ferry.db-wal", "ferry.db-shm"} {
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			t.Fatalf("the database is not in the state in which a kill leaves it: %v", err)
		}
	}
}
