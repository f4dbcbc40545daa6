// Package blobtest is the contract of a [blob.Store] as tests, which every implementation runs.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/storage/blob"
)

// Run tests the store that open returns. Each test has its own store, which is empty at first.
// reopen simulates a restart: it returns another store with the same content.
func Run(t *testing.T, open func(t *testing.T) (reopen func() blob.Store)) {
	for name, test := range map[string]func(*testing.T, func() blob.Store){
		"ABlobIsThereOnceItIsCommitted":             testCommit,
		"APartialGoesOnAfterARestart":               testResume,
		"APartialTakesRangesInAnyOrder":             testRanges,
		"ATruncatedPartialIsShorter":                testTruncate,
		"ABlobIsReplacedByTheSameContent":           testReplace,
		"AReopenedBlobIsAPartialAgain":              testReopen,
		"ACommitThatIsNotRecordedCanBeUndone":       testUndo,
		"AMissingBlobIsErrNotExist":                 testMissing,
		"ARemovalCanBeRepeated":                     testRemove,
		"AWalkMeetsEveryBlobAndEndsAtTheFirstError": testWalk,
		"AWalkMeetsEveryPartial":                    testWalkPartials,
		"NoInputNamesAnotherFile":                   testHostile,
		"AStoreSaysHowMuchRoomItHas":                testFree,
		"AMarkStaysUntilItIsReplaced":               testMark,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

// begin opens the partial id, writes content, and closes the partial with the test.
func begin(t *testing.T, s blob.Store, id, content string) blob.Partial {
	t.Helper()
	p, err := s.Partial(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if _, err := p.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	return p
}

func testFree(t *testing.T, open func() blob.Store) {
	free, err := open().Free(t.Context())
	if err != nil || free <= 0 {
		t.Errorf("Free = %d, %v", free, err)
	}
}

func testMark(t *testing.T, reopen func() blob.Store) {
	store := func() blob.Marked {
		s, ok := reopen().(blob.Marked)
		if !ok {
			t.Skip("the store has no mark")
		}
		return s
	}
	want := func(want string) {
		t.Helper()
		if mark, err := store().Mark(t.Context()); mark != want || err != nil {
			t.Errorf("Mark = %q, %v; want %q", mark, err, want)
		}
	}
	want("")
	for _, mark := range []string{"first", "second"} {
		if kept, err := store().KeepMark(t.Context(), mark); kept != "first" || err != nil {
			t.Errorf("KeepMark(%s) = %q, %v", mark, kept, err)
		}
		want("first")
	}
	if err := store().SetMark(t.Context(), "third"); err != nil {
		t.Error(err)
	}
	want("third")
	if err := reopen().Walk(t.Context(), func(i blob.Info) error { return errors.New(string(i.Digest)) }); err != nil {
		t.Errorf("a mark counts as a blob: %v", err)
	}
}

func commit(t *testing.T, s blob.Store, content string, algorithm digest.Algorithm) digest.Digest {
	t.Helper()
	d := algorithm.FromString(content)
	begin(t, s, "partial", content)
	if err := s.Commit(t.Context(), "partial", d); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(t.Context(), "partial"); err != nil {
		t.Fatal(err)
	}
	return d
}

// want fails the test unless content is the content of the blob d.
func want(t *testing.T, s blob.Store, d digest.Digest, content string) {
	t.Helper()
	r, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); string(got) != content || err != nil {
		t.Errorf("the blob is %q, %v; want %q", got, err, content)
	}
	if _, err := r.Seek(int64(len(content)/2), io.SeekStart); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(r); string(got) != content[len(content)/2:] || err != nil {
		t.Errorf("its second half is %q, %v", got, err)
	}
	info, err := s.Stat(t.Context(), d)
	if err != nil || info.Digest != d || info.Size != int64(len(content)) || info.Modified.IsZero() {
		t.Errorf("Stat = %+v, %v; want %s of %d bytes", info, err, d, len(content))
	}
}

func holds(t *testing.T, p blob.Partial, content string) {
	t.Helper()
	size, err := p.Size()
	if size != int64(len(content)) || err != nil {
		t.Fatalf("the partial has %d bytes, %v; want %d", size, err, len(content))
	}
	got := make([]byte, size)
	if _, err := p.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if string(got) != content {
		t.Errorf("the partial is %q, want %q", got, content)
	}
}

func absent(t *testing.T, s blob.Store, d digest.Digest) {
	t.Helper()
	if _, err := s.Stat(t.Context(), d); !errors.Is(err, blob.ErrNotExist) {
		t.Errorf("Stat(%s) = %v, want %v", d, err, blob.ErrNotExist)
	}
	if r, err := s.Open(t.Context(), d); !errors.Is(err, blob.ErrNotExist) {
		t.Errorf("Open(%s) = %v, want %v", d, err, blob.ErrNotExist)
		if err == nil {
			r.Close()
		}
	}
}

func partials(t *testing.T, s blob.Store) (ids []string) {
	t.Helper()
	err := s.WalkPartials(t.Context(), func(id string, size int64) error {
		if p, err := s.Partial(t.Context(), id); err != nil {
			t.Error(err)
		} else {
			if want, err := p.Size(); size != want || err != nil {
				t.Errorf("partial %s has size %d, want %d, %v", id, size, want, err)
			}
			p.Close()
		}
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func testCommit(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	for _, algorithm := range algorithms {
		for _, content := range []string{"some content", ""} {
			d := algorithm.FromString(content)
			p := begin(t, s, "partial", content)
			absent(t, s, d)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(t.Context(), "partial", d); err != nil {
				t.Fatal(err)
			}
			want(t, s, d, content)
			if err := s.Discard(t.Context(), "partial"); err != nil {
				t.Fatal(err)
			}
			want(t, s, d, content)
			want(t, reopen(), d, content)
			if ids := partials(t, s); len(ids) > 0 {
				t.Errorf("partials %v are left", ids)
			}
		}
	}
}

func testResume(t *testing.T, reopen func() blob.Store) {
	p := begin(t, reopen(), "partial", "first ")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := reopen().Partial(t.Context(), "partial")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	holds(t, p, "first ")
	if _, err := p.WriteAt([]byte("second"), 6); err != nil {
		t.Fatal(err)
	}
	holds(t, p, "first second")
}

func testRanges(t *testing.T, reopen func() blob.Store) {
	p, err := reopen().Partial(t.Context(), "partial")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	content := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	const pieces = 16
	size := len(content) / pieces
	var all sync.WaitGroup
	for i := range pieces {
		all.Go(func() {
			at := (pieces - 1 - i) * size
			if _, err := p.WriteAt(content[at:at+size], int64(at)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	holds(t, p, string(content))
}

func testTruncate(t *testing.T, reopen func() blob.Store) {
	p := begin(t, reopen(), "partial", "content that is dropped")
	if err := p.Truncate(7); err != nil {
		t.Fatal(err)
	}
	holds(t, p, "content")
}

func testReplace(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	commit(t, s, "content", digest.SHA256)
	want(t, s, commit(t, s, "content", digest.SHA256), "content")
}

func testReopen(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	d := commit(t, s, "content", digest.SHA512)
	begin(t, s, "again", "of another time, and longer").Close()
	if err := s.Reopen(t.Context(), d, "again"); err != nil {
		t.Fatal(err)
	}
	absent(t, s, d)
	p, err := reopen().Partial(t.Context(), "again")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	holds(t, p, "content")
	if err := s.Commit(t.Context(), "again", d); err != nil {
		t.Fatal(err)
	}
	want(t, s, d, "content")
}

// testUndo undoes a commit, as a caller does whose transaction fails, and repeats it.
func testUndo(t *testing.T, reopen func() blob.Store) {
	for _, content := range []string{"content", strings.Repeat("content", 1<<20)} {
		s := reopen()
		d := digest.FromString(content)
		begin(t, s, "partial", content).Close()
		for range 2 {
			if err := s.Commit(t.Context(), "partial", d); err != nil {
				t.Fatal(err)
			}
			if err := s.Reopen(t.Context(), d, "partial"); err != nil {
				t.Fatal(err)
			}
			p, err := reopen().Partial(t.Context(), "partial")
			if err != nil {
				t.Fatal(err)
			}
			holds(t, p, content)
			p.Close()
		}
		if err := s.Commit(t.Context(), "partial", d); err != nil {
			t.Fatal(err)
		}
		want(t, s, d, content)
	}
}

func testMissing(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	d := digest.FromString("content")
	absent(t, s, d)
	if err := s.Commit(t.Context(), "missing", d); !errors.Is(err, blob.ErrNotExist) {
		t.Errorf("Commit = %v, want %v", err, blob.ErrNotExist)
	}
	absent(t, s, d)
	if err := s.Reopen(t.Context(), d, "id"); !errors.Is(err, blob.ErrNotExist) {
		t.Errorf("Reopen = %v, want %v", err, blob.ErrNotExist)
	}
}

func testRemove(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	d := commit(t, s, "content", digest.SHA256)
	begin(t, s, "partial", "content")
	for range 2 {
		if err := s.Delete(t.Context(), d); err != nil {
			t.Error(err)
		}
		if err := s.Discard(t.Context(), "partial"); err != nil {
			t.Error(err)
		}
	}
	absent(t, s, d)
	if ids := partials(t, s); len(ids) > 0 {
		t.Errorf("partials %v are left", ids)
	}
}

func testWalk(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	expected := map[digest.Digest]int64{}
	for _, algorithm := range algorithms {
		for n := range 300 { // more than a store reads at a time
			content := strings.Repeat("x", n)
			expected[commit(t, s, content, algorithm)] = int64(n)
		}
	}
	got := map[digest.Digest]int64{}
	err := s.Walk(t.Context(), func(info blob.Info) error {
		if info.Modified.IsZero() {
			t.Errorf("%s has no time", info.Digest)
		}
		got[info.Digest] = info.Size
		return nil
	})
	if diff := cmp.Diff(expected, got); diff != "" || err != nil {
		t.Errorf("Walk: %v: %s", err, diff)
	}
	stop, calls := errors.New("stop"), 0
	err = s.Walk(t.Context(), func(blob.Info) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Walk = %v after %d calls, want %v after 1", err, calls, stop)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Walk(ctx, func(blob.Info) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Walk = %v", err)
	}
}

func testWalkPartials(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	begin(t, s, "one", "1")
	begin(t, s, "two", "")
	if diff := cmp.Diff([]string{"one", "two"}, partials(t, s)); diff != "" {
		t.Error(diff)
	}
}

func testHostile(t *testing.T, reopen func() blob.Store) {
	s := reopen()
	commit(t, s, "content", digest.SHA256)
	hex := digest.FromString("content").Encoded()
	for _, d := range []digest.Digest{
		"", "sha256:", "sha256:../../../etc/passwd", digest.Digest("sha256:" + hex[1:]), digest.Digest("SHA256:" + hex),
		digest.Digest("sha256:" + strings.ToUpper(hex)), digest.Digest("md5:" + hex), digest.Digest("../sha256:" + hex),
		digest.Digest(hex),
	} {
		if r, err := s.Open(t.Context(), d); err == nil {
			r.Close()
			t.Errorf("Open(%q) succeeded", d)
		}
		if _, err := s.Stat(t.Context(), d); err == nil {
			t.Errorf("Stat(%q) succeeded", d)
		}
		if err := s.Delete(t.Context(), d); err == nil {
			t.Errorf("Delete(%q) succeeded", d)
		}
		begin(t, s, "partial", "content")
		if err := s.Commit(t.Context(), "partial", d); err == nil {
			t.Errorf("Commit(%q) succeeded", d)
		}
	}
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00b", ".hidden",
		strings.Repeat("x", 300)} {
		if p, err := s.Partial(t.Context(), id); err == nil {
			p.Close()
			t.Errorf("Partial(%q) succeeded", id)
		}
		if err := s.Discard(t.Context(), id); err == nil {
			t.Errorf("Discard(%q) succeeded", id)
		}
	}
}
