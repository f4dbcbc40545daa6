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

// errKilled ends the sync of a site that was killed, once its disk is saved.
var errKilled = errors.New("the site was killed")

// killIn lets a window be open, and kills the site after d.
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

// kill kills the site without a word of warning: it goes on with what is on
// its disk at this moment, and has lost what it only held in memory. What it
// served until then it serves still. bury ends what the dead site does.
//
// The moment is one at which every goroutine of the site waits for the link,
// the clock or each other, so that no file is being written.
func (s *restartableReplica) kill(bury func()) {
	s.t.Helper()
	before := s.content()
	synctest.Wait()
	dead, dir := s.dir, s.t.TempDir()
	copyDirectory(s.t, dead, dir)
	still := s.content() // what moved on since is not held against the copy
	bury()
	s.stop()
	if err := os.RemoveAll(dead); err != nil {
		s.t.Fatal(err)
	}
	s.dir = dir
	s.start()
	s.checkKept(before, still, s.content())
}

// served is what the site has; every tag's content is whole.
func (s *restartableReplica) content() content {
	s.t.Helper()
	c, err := readContentWith(s.t.Context(), s.Storage, map[digest.Digest]bool{}, s.children)
	if err != nil {
		s.t.Errorf("a user of the site: %v", err)
	}
	return c
}

// kept fails the test unless after has what both earlier contents had.
func (s *restartableReplica) checkKept(before, still, after content) {
	s.t.Helper()
	tags := maps.Clone(before.tags)
	maps.DeleteFunc(tags, func(name string, d digest.Digest) bool { return still.tags[name] != d })
	for name, d := range tags {
		if after.tags[name] != d {
			s.t.Errorf("the kill moved %s from %s to %q", name, d, after.tags[name])
		}
	}
	manifests := maps.Clone(before.manifests)
	maps.DeleteFunc(manifests, func(name, _ string) bool { _, has := still.manifests[name]; return !has })
	maps.DeleteFunc(after.manifests, func(name, _ string) bool { _, had := manifests[name]; return !had })
	if diff := cmp.Diff(manifests, after.manifests); diff != "" {
		s.t.Errorf("the kill took manifests (-before +after):\n%s", diff)
	}
}

// copyDirectory copies what a process leaves in a directory when it is killed.
func copyDirectory(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ferry.db", "ferry.db-wal", "ferry.db-shm"} {
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			t.Fatalf("the database of a running site was not as a kill leaves it: %v", err)
		}
	}
}
