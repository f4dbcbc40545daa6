package storage_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

// A ref is a tag or a digest in a repository.
type ref struct{ repository, name string }

// A machine drives a storage, and says which content must exist: the manifests, with the blobs
// that they need; the tags; and the blobs that clients rely on, with the time until which they
// may.
type machine struct {
	t         *testing.T
	f         *fixture
	files     blob.Store
	manifests map[ref][]string         // by digest; the contents of its blobs
	tags      map[ref]string           // the digest
	locked    map[ref]bool             // against deletion; the name of a repository's is ""
	promised  map[ref]time.Time        // by content
	leases    map[string]time.Time     // by content
	known     map[digest.Digest]string // content of every blob there ever was
	left      map[string]time.Time     // until when an orphan stays, by content
}

var (
	repositories = rapid.SampledFrom([]string{"a", "b"})
	contents     = rapid.SampledFrom([]string{"x", "y"})
	tagNames     = rapid.SampledFrom([]string{"t1", "t2"})
)

// TestNeededContentIsNeverCollected runs pushes, deletions, locks, purges, leases, steps of the clock,
// crashes between a file and its row, and collections in any order.
func TestNeededContentIsNeverCollected(t *testing.T) {
	f := newFixture(t)
	files := storagetest.Blobs(t, f.dir)
	f.openOn(t, storagetest.Database(t), files)
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{
			t: t, f: f, files: files,
			manifests: map[ref][]string{}, tags: map[ref]string{}, locked: map[ref]bool{},
			promised: map[ref]time.Time{},
			leases:   map[string]time.Time{},
			known:    map[digest.Digest]string{}, left: map[string]time.Time{},
		}
		m.quiet(r, "a", "b") // deletes the content of the run before
		r.Repeat(rapid.StateMachineActions(m))
		m.quiet(r)
	})
}

// promise records that a client found a blob, and relies on it for a while.
func (m *machine) promise(repository, content string, for_ time.Duration) {
	until := m.f.now.Add(for_)
	if at := (ref{repository, content}); m.promised[at].Before(until) {
		m.promised[at] = until
	}
}

func (m *machine) need(r *rapid.T, err error, allowed ...error) bool {
	r.Helper()
	for _, a := range allowed {
		if errors.Is(err, a) {
			return false
		}
	}
	if err != nil {
		r.Fatal(err)
	}
	return true
}

func (m *machine) PushBlob(r *rapid.T) {
	repository, content := repositories.Draw(r, "repository"), contents.Draw(r, "content")
	d := digest.FromString(content)
	m.need(r, m.f.PutBlob(m.t.Context(), repository, d, []byte(content)))
	m.known[d] = content
	delete(m.left, content)
	m.promise(repository, content, time.Hour)
}

// CrashBeforeRow leaves a file in a blob's place without a row.
func (m *machine) CrashBeforeRow(r *rapid.T) {
	content := contents.Draw(r, "content")
	d := digest.FromString(content)
	has, err := m.f.HasBlob(m.t.Context(), d)
	if m.need(r, err); has {
		r.Skip()
	}
	p, err := m.files.Partial(m.t.Context(), "crashed")
	m.need(r, err)
	_, err = p.WriteAt([]byte(content), 0)
	m.need(r, errors.Join(err, p.Close(), m.files.Commit(m.t.Context(), "crashed", d)))
	m.known[d] = content
	if _, already := m.left[content]; !already {
		m.left[content] = m.f.now.Add(storage.OrphanAge)
	}
}

func (m *machine) LookAtBlob(r *rapid.T) {
	repository, content := repositories.Draw(r, "repository"), contents.Draw(r, "content")
	_, err := m.f.StatBlob(m.t.Context(), repository, digest.FromString(content))
	if m.need(r, err, oci.ErrBlobUnknown) {
		m.promise(repository, content, time.Hour/2)
	}
}

func (m *machine) MountBlob(r *rapid.T) {
	repository, content := repositories.Draw(r, "repository"), contents.Draw(r, "content")
	ok, err := m.f.Mount(m.t.Context(), repository, repositories.Draw(r, "from"), digest.FromString(content))
	if m.need(r, err); ok {
		m.promise(repository, content, time.Hour)
	}
}

func (m *machine) PushManifest(r *rapid.T) {
	repository, config, layer := repositories.Draw(r, "repository"), contents.Draw(r, "config"), contents.Draw(r,
		"layer")
	put := storage.Put{Repository: repository, Payload: image(digest.FromString(config), digest.FromString(layer))}
	if rapid.Bool().Draw(r, "tagged") {
		put.Tags = []string{tagNames.Draw(r, "tag")}
	}
	stored, err := m.f.PutManifest(m.t.Context(), put)
	if !m.need(r, err, oci.ErrManifestBlobUnknown) {
		return // Check finds out whether the refusal was allowed
	}
	m.manifests[ref{repository, string(stored.Digest)}] = []string{config, layer}
	for _, tag := range put.Tags {
		m.tags[ref{repository, tag}] = string(stored.Digest)
	}
}

func (m *machine) DeleteTag(r *rapid.T) {
	at := ref{repositories.Draw(r, "repository"), tagNames.Draw(r, "tag")}
	err := m.f.DeleteTag(m.t.Context(), at.repository, at.name)
	if _, exists := m.tags[at]; exists && m.isRefused(r, err, m.isLocked(at)) {
		return
	}
	m.need(r, err, oci.ErrManifestUnknown)
	m.forgetTag(at)
}

// isLocked reports whether locks forbid the deletion of a tag or a manifest.
func (m *machine) isLocked(at ref) bool { return m.locked[at] || m.locked[ref{at.repository, ""}] }

// isRefused fails unless err is a refusal exactly if it should be one.
func (m *machine) isRefused(r *rapid.T, err error, should bool) bool {
	r.Helper()
	if errors.Is(err, oci.ErrDenied) != should {
		r.Fatalf("a deletion = %v, should be refused: %v", err, should)
	}
	return should
}

func (m *machine) forgetTag(at ref) {
	delete(m.tags, at)
	delete(m.locked, at)
}

// forgetManifest records that a manifest is gone, with its tags. A client that found its blobs relies on
// them.
func (m *machine) forgetManifest(at ref) {
	for _, content := range m.manifests[at] {
		m.promise(at.repository, content, time.Hour)
	}
	delete(m.manifests, at)
	delete(m.locked, at)
	for _, tag := range m.tagsOf(at) {
		m.forgetTag(tag)
	}
}

// tagsOf returns the tags that name a manifest.
func (m *machine) tagsOf(at ref) (all []ref) {
	for tag, d := range m.tags {
		if tag.repository == at.repository && d == at.name {
			all = append(all, tag)
		}
	}
	return all
}

// ChangeLocks locks a repository, a tag or a manifest against deletion, or unlocks it.
func (m *machine) ChangeLocks(r *rapid.T) {
	at := ref{repositories.Draw(r, "repository"), ""}
	names := append([]string{""}, "t1", "t2")
	for other := range m.manifests {
		if other.repository == at.repository {
			names = append(names, other.name)
		}
	}
	slices.Sort(names)
	at.name = rapid.SampledFrom(names).Draw(r, "name")
	change := storage.LockChange{Clear: storage.NoDelete}
	if rapid.Bool().Draw(r, "lock") {
		change = storage.LockChange{Set: storage.NoDelete}
	}
	err := m.f.ChangeLocks(m.t.Context(), at.repository, at.name, change)
	if m.need(r, err, oci.ErrManifestUnknown, oci.ErrNameUnknown) {
		m.locked[at] = change.Set != 0
	}
}

// Purge removes all manifests of a repository without a tag, apart from locked ones.
func (m *machine) Purge(r *rapid.T) {
	ctx, repository := m.t.Context(), repositories.Draw(r, "repository")
	p := m.f.NewPurge(repository, func(storage.PurgeCandidate) bool { return true })
	found, _, err := p.Unreferenced(ctx, "", 100)
	m.need(r, err)
	removed := map[ref]bool{}
	err = p.Manifests(ctx, found, func(gone storage.Manifest, _ int64) {
		removed[ref{repository, string(gone.Digest)}] = true
	})
	if len(found) > 0 && m.isRefused(r, err, m.locked[ref{repository, ""}]) {
		return
	}
	m.need(r, err)
	for at := range m.manifests {
		if at.repository != repository {
			continue
		}
		if should := len(m.tagsOf(at)) == 0 && !m.locked[at]; removed[at] != should {
			r.Fatalf("the purge removed %v: %v, should: %v", at, removed[at], should)
		}
	}
	for at := range removed {
		m.forgetManifest(at)
	}
}

func (m *machine) DeleteManifest(r *rapid.T) {
	if len(m.manifests) == 0 {
		r.Skip()
	}
	all := slices.SortedFunc(maps.Keys(m.manifests), func(a, b ref) int {
		return slices.Compare([]string{a.repository, a.name}, []string{b.repository, b.name})
	})
	at := rapid.SampledFrom(all).Draw(r, "manifest")
	err := m.f.DeleteManifest(m.t.Context(), at.repository, digest.Digest(at.name))
	if m.isRefused(r, err, m.isLocked(at) || slices.ContainsFunc(m.tagsOf(at), m.isLocked)) {
		return
	}
	m.need(r, err)
	m.forgetManifest(at)
}

func (m *machine) DeleteBlob(r *rapid.T) {
	at := ref{repositories.Draw(r, "repository"), contents.Draw(r, "content")}
	if m.need(r, m.f.DeleteBlob(m.t.Context(), at.repository, digest.FromString(at.name)), oci.ErrBlobUnknown,
		oci.ErrDenied) {
		delete(m.promised, at)
	}
}

func (m *machine) DeleteRepository(r *rapid.T) {
	repository := repositories.Draw(r, "repository")
	in := func(at ref) bool { return at.repository == repository }
	err := m.f.DeleteRepository(m.t.Context(), repository)
	locked := false
	for at, is := range m.locked {
		locked = locked || is && in(at)
	}
	if m.isRefused(r, err, locked) || !m.need(r, err, oci.ErrNameUnknown) {
		return
	}
	maps.DeleteFunc(m.locked, func(at ref, _ bool) bool { return in(at) })
	maps.DeleteFunc(m.manifests, func(at ref, _ []string) bool { return in(at) })
	maps.DeleteFunc(m.tags, func(at ref, _ string) bool { return in(at) })
	maps.DeleteFunc(m.promised, func(at ref, _ time.Time) bool { return in(at) })
}

func (m *machine) Lease(r *rapid.T) {
	content := contents.Draw(r, "content")
	ttl := time.Duration(rapid.IntRange(1, 180).Draw(r, "minutes")) * time.Minute
	m.need(r, m.f.Storage.Lease(m.t.Context(), "sync", ttl, digest.FromString(content)))
	has, err := m.f.HasBlob(m.t.Context(), digest.FromString(content))
	if m.need(r, err); has && m.leases[content].Before(m.f.now.Add(ttl)) {
		m.leases[content] = m.f.now.Add(ttl)
	}
}

func (m *machine) Release(r *rapid.T) {
	m.need(r, m.f.Storage.Release(m.t.Context(), "sync"))
	clear(m.leases)
}

// StepClock sets the wall clock, by up to sixty years.
func (m *machine) StepClock(r *rapid.T) {
	hours := rapid.SampledFrom([]time.Duration{-60 * 365 * 24, -25, -2, 2, 25, 60 * 365 * 24}).Draw(r, "hours")
	m.f.step = hours * time.Hour
}

func (m *machine) Collect(r *rapid.T) {
	m.f.now = m.f.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(r, "minutes")) * time.Minute)
	_, err := m.f.Collect(m.t.Context())
	m.need(r, err)
}

// Check checks all content that must exist.
func (m *machine) Check(r *rapid.T) {
	ctx := m.t.Context()
	readable := func(repository, content, why string) {
		reader, _, err := m.f.OpenBlob(ctx, repository, digest.FromString(content))
		if err != nil {
			r.Fatalf("blob %q of %s, %s: %v", content, repository, why, err)
		}
		defer reader.Close()
		got := make([]byte, len(content)+1)
		if n, _ := reader.Read(got); string(got[:n]) != content {
			r.Fatalf("blob %q of %s reads %q", content, repository, got[:n])
		}
	}
	for at, blobs := range m.manifests {
		if _, err := m.f.Manifest(ctx, at.repository, at.name); err != nil {
			r.Fatalf("manifest %v: %v", at, err)
		}
		for _, content := range blobs {
			readable(at.repository, content, "which a manifest needs")
		}
	}
	for _, repository := range []string{"a", "b"} {
		for _, tag := range []string{"t1", "t2"} {
			got, err := m.f.Manifest(ctx, repository, tag)
			want, ok := m.tags[ref{repository, tag}]
			if (err == nil) != ok || ok && string(got.Digest) != want {
				r.Fatalf("%s:%s = %v, %v; want %q", repository, tag, got, err, want)
			}
		}
	}
	for at, until := range m.promised {
		if !m.f.now.After(until) {
			readable(at.repository, at.name, "which a client found")
		}
	}
	for content, until := range m.left {
		if _, err := m.files.Stat(ctx, digest.FromString(content)); err != nil && !m.f.now.After(until) {
			r.Fatalf("the file of %q, which no row knows: %v", content, err)
		}
	}
	for content, until := range m.leases {
		if m.f.now.After(until) {
			continue
		}
		if has, err := m.f.HasBlob(ctx, digest.FromString(content)); !has || err != nil {
			r.Fatalf("blob %q, which is leased: %v, %v", content, has, err)
		}
	}
}

// quiet deletes the repositories, waits until no client relies on a blob, and checks that the
// remaining rows and files are exactly those that the manifests need.
func (m *machine) quiet(r *rapid.T, repositories ...string) {
	ctx := m.t.Context()
	for _, repository := range repositories {
		m.need(r, m.f.Unlocked().DeleteRepository(ctx, repository), oci.ErrNameUnknown)
	}
	for _, wait := range []time.Duration{24 * time.Hour, storage.OrphanAge + time.Hour} {
		m.f.now = m.f.now.Add(wait)
		_, err := m.f.Storage.Collect(ctx)
		m.need(r, err)
	}
	m.Check(r)
	want := map[string]bool{}
	for _, blobs := range m.manifests {
		for _, content := range blobs {
			want[content] = true
		}
	}
	got := map[string]bool{}
	err := m.files.Walk(ctx, func(info blob.Info) error {
		got[m.known[info.Digest]] = true
		has, err := m.f.HasBlob(ctx, info.Digest)
		if err == nil && !has {
			err = fmt.Errorf("file %s has no row", info.Digest)
		}
		return err
	})
	m.need(r, err)
	if !maps.Equal(want, got) {
		r.Fatalf("the files are of %v, want %v", got, want)
	}
	err = m.files.WalkPartials(ctx, func(id string, _ int64) error { return fmt.Errorf("partial %s is left", id) })
	m.need(r, err)
}
