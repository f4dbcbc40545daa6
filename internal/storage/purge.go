package storage

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// purgeBatch is how many tags or manifests a purge removes in one transaction, so that other
// writers wait only for a moment.
const purgeBatch = 100

// A PurgeCandidate is a manifest that no tag names, no index holds, and whose subject, if it has one,
// is not here.
type PurgeCandidate struct {
	Manifest
	Release metadb.Release // when that came about
	Synced  bool           // an item of a mirror rule or an import names it
}

// Locked reports whether locks forbid to remove the manifest.
func (c PurgeCandidate) Locked() bool { return c.Locks&noRemoval != 0 }

// A Purge removes content of a repository that is not needed any more. A simulation removes
// nothing, and finds everything that a purge would remove: it remembers that in memory.
type Purge struct {
	s          *Storage
	repository string
	decide     func(PurgeCandidate) bool
	notes      []Note

	simulated bool
	tags      map[string]bool                  // that are gone, in a simulation
	manifests map[digest.Digest]bool           // the same
	released  map[digest.Digest]metadb.Release // by what is gone
	untagged  []digest.Digest                  // that may have lost their last tag, in a simulation
	blobs     map[digest.Digest]int            // how many references are gone, of blobs that have others
}

// NewPurge returns a purge of a repository. decide is called, in a transaction, for each manifest that
// could go, and returns true if it goes. A manifest that is locked, or synced, never does. The notes
// are written once, with the first thing that is removed.
func (s *Storage) NewPurge(repository string, decide func(PurgeCandidate) bool, notes ...Note) *Purge {
	return &Purge{s: s, repository: repository, decide: decide, notes: notes}
}

// Simulate makes the purge a simulation.
func (p *Purge) Simulate() {
	p.simulated = true
	p.tags, p.manifests = map[string]bool{}, map[digest.Digest]bool{}
	p.released, p.blobs = map[digest.Digest]metadb.Release{}, map[digest.Digest]int{}
}

// Tags removes those of tags that did not move since they were read. It passes each to removed, or
// the reason why it stays. The error is [oci.ErrDenied] if the repository is locked.
func (p *Purge) Tags(ctx context.Context, tags []Tag, removed func(t Tag, stays error)) error {
	for len(tags) > 0 {
		n := min(len(tags), purgeBatch)
		results := make([]error, n)
		var names []string
		err := p.transaction(ctx, func(c *change) (err error) {
			names = nil
			for i, t := range tags[:n] {
				if results[i], err = p.tag(c, t); err != nil {
					return err
				}
				if results[i] == nil {
					names = append(names, t.Name)
				}
			}
			return p.note(c, len(names) > 0)
		})
		p.s.cache.forget(p.repository, names...)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			p.notes = nil
		}
		for i, t := range tags[:n] {
			removed(t, results[i])
		}
		tags = tags[n:]
	}
	return nil
}

// errMoved says that a tag is another one than the purge has read.
var errMoved = errors.New("it moved meanwhile")

// tag removes a tag, and returns the reason if it stays.
func (p *Purge) tag(c *change, t Tag) (stays, err error) {
	now, err := c.tx.Tag(p.repository, t.Name)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && (now.Digest != t.Digest || now.Seq != t.Seq) {
		return errMoved, nil
	}
	if err != nil {
		return nil, err
	}
	if stays := c.checkRemovable("tag "+t.Name, now.Locks); stays != nil {
		return stays, nil
	}
	if synced, err := c.tx.HasSyncItem(p.repository, t.Name, string(t.Digest)); err != nil {
		return nil, err
	} else if synced {
		return oci.ErrDenied.With("a mirror rule keeps it"), nil
	}
	if p.simulated {
		p.tags[t.Name] = true
		p.released[t.Digest] = c.releasedNow()
		p.untagged = append(p.untagged, t.Digest)
		return nil, nil
	}
	return nil, c.deleteTag(t.Name, nil)
}

// releasedNow is the release by a change of this moment, in a simulation: no reader has heard of it.
func (c *change) releasedNow() metadb.Release { return metadb.Release{Seq: 1 << 62, At: c.Uptime()} }

// Unreferenced returns up to limit manifests after the digest after that no tag names and no index
// holds. last reports whether there are no more.
func (p *Purge) Unreferenced(
	ctx context.Context, after digest.Digest, limit int,
) (all []digest.Digest, last bool, err error) {
	rows, err := p.s.UnreferencedManifests(ctx, p.repository, string(after), limit)
	if errors.Is(err, oci.ErrNameUnknown) {
		return nil, true, nil
	}
	return convert(rows, func(m Manifest) digest.Digest { return m.Digest }), len(rows) < limit, err
}

// Untagged returns the manifests that lost a tag in a simulation.
func (p *Purge) Untagged() []digest.Digest { return p.untagged }

// Manifests removes those of all that decide agrees to and that nothing refers to. Then it does the
// same for manifests that only the removed ones referred to: children of indexes, and referrers. It
// passes each manifest that it removes to removed, with the bytes that a collection will free.
func (p *Purge) Manifests(ctx context.Context, all []digest.Digest, removed func(m Manifest, freed int64)) error {
	for len(all) > 0 {
		n := min(len(all), purgeBatch)
		var gone []Manifest
		var freed []int64
		var next, names = all[n:len(all):len(all)], []string(nil)
		err := p.transaction(ctx, func(c *change) error {
			gone, freed, next, names = nil, nil, all[n:len(all):len(all)], nil
			for _, d := range all[:n] {
				m, bytes, below, err := p.manifest(c, d)
				if err != nil {
					return err
				}
				if m != nil {
					gone, freed, names = append(gone, *m), append(freed, bytes), append(names, string(d))
					next = append(next, below...)
				}
			}
			return p.note(c, len(gone) > 0)
		})
		p.s.cache.forget(p.repository, names...)
		if err != nil {
			return err
		}
		if len(gone) > 0 {
			p.notes = nil
		}
		for i, m := range gone {
			removed(m, freed[i])
		}
		all = next
	}
	return nil
}

// manifest removes a manifest if nothing refers to it and decide agrees. It returns nil if it stays. below
// are the manifests that lost it.
func (p *Purge) manifest(c *change, d digest.Digest) (_ *Manifest, freed int64, below []digest.Digest, err error) {
	m, goes, err := p.candidate(c, d)
	if err != nil || !goes {
		return nil, 0, nil, err
	}
	children, err := c.tx.Children(p.repository, string(d))
	if err != nil {
		return nil, 0, nil, err
	}
	var blobs []digest.Digest
	for _, child := range children {
		if child.Manifest {
			below = append(below, digest.Digest(child.Digest))
		} else {
			blobs = append(blobs, digest.Digest(child.Digest))
		}
	}
	referrers, err := c.tx.ReferrerDigests(p.repository, string(d))
	if err != nil {
		return nil, 0, nil, err
	}
	below = append(below, convert(referrers, func(text string) digest.Digest { return digest.Digest(text) })...)
	if p.simulated {
		p.manifests[d] = true
		for _, b := range below {
			p.released[b] = later(p.released[b], m.Release)
		}
		for _, b := range blobs {
			p.blobs[b]++
		}
	} else if err := c.purgeManifest(m); err != nil {
		return nil, 0, nil, err
	}
	freed = m.Size
	for _, b := range blobs {
		size, references, err := c.tx.BlobReferences(string(b))
		if err != nil {
			return nil, 0, nil, err
		}
		if references == p.blobs[b] { // 0 after a removal
			freed += size
			delete(p.blobs, b)
		}
	}
	return &m.Manifest, freed, below, nil
}

// candidate returns a manifest, and whether it goes.
func (p *Purge) candidate(c *change, d digest.Digest) (m PurgeCandidate, goes bool, err error) {
	if p.manifests[d] {
		return m, false, nil
	}
	if m.Manifest, err = c.tx.Manifest(p.repository, string(d)); errors.Is(err, metadb.ErrNotFound) {
		return m, false, nil
	}
	if err == nil {
		m.Payload = nil
		goes, err = p.isUnreferenced(c, m.Manifest)
	}
	if err != nil || !goes {
		return m, false, err
	}
	if m.Synced, err = c.tx.HasSyncItemOf(p.repository, string(d)); err != nil {
		return m, false, err
	}
	if m.Release, err = c.tx.ReleaseOf(p.repository, string(d)); err != nil {
		return m, false, err
	}
	m.Release = later(m.Release, p.released[d])
	agreed := p.decide(m)
	return m, agreed && !m.Locked() && !m.Synced, nil
}

func later(a, b metadb.Release) metadb.Release {
	if a.Seq < b.Seq {
		return b
	}
	return a
}

// isUnreferenced reports whether no tag, no index and no subject needs a manifest, apart from those
// that are gone.
func (p *Purge) isUnreferenced(c *change, m Manifest) (bool, error) {
	tags, err := c.tx.TagsOf(p.repository, string(m.Digest))
	for _, t := range tags {
		if !p.tags[t.Name] {
			return false, err
		}
	}
	if err != nil {
		return false, err
	}
	indexes, err := c.tx.IndexesOf(p.repository, string(m.Digest))
	for _, index := range indexes {
		if !p.manifests[digest.Digest(index)] {
			return false, err
		}
	}
	if err != nil || m.Subject == "" || p.manifests[m.Subject] {
		return err == nil, err
	}
	here, err := c.tx.KnowsManifest(p.repository, string(m.Subject))
	return !here, err
}

// purgeManifest removes a manifest that nothing refers to. If no child of this registry can have it as an
// item, the removal takes no number of the feed: nobody has to hear of it, however many go.
func (c *change) purgeManifest(m PurgeCandidate) error {
	c.deleted("", m.Manifest)
	if !m.WasReferenced || m.Subject != "" || m.Locks != 0 {
		return c.removeManifest(m.Digest)
	}
	if err := c.tx.MarkReleasedBelow(c.repository, string(m.Digest), m.Release); err != nil {
		return err
	}
	if err := c.tx.DeleteManifest(c.repository, string(m.Digest), c.Uptime()); err != nil {
		return err
	}
	return c.tx.MarkReferrers(c.repository, string(m.Digest))
}

// transaction runs fn in a transaction that changes the repository, or in one that only reads. The error is
// [oci.ErrDenied] if the repository is locked against deletion.
func (p *Purge) transaction(ctx context.Context, fn func(*change) error) error {
	if p.simulated {
		begun := false
		return p.s.db.View(ctx, func(tx *metadb.Tx) error {
			if begun { // what is gone is in memory already
				return metadb.ErrUnavailable
			}
			begun = true
			c := &change{Storage: p.s, tx: tx, repository: p.repository}
			if err := c.checkRemovable("", 0); err != nil {
				return err
			}
			return fn(c)
		})
	}
	return p.s.update(ctx, p.repository, p.s.remove, func(c *change) error {
		if err := c.checkRemovable("", 0); err != nil {
			return err
		}
		return fn(c)
	})
}

// note writes the notes with the first thing that is removed.
func (p *Purge) note(c *change, removed bool) error {
	if p.simulated || !removed {
		return nil
	}
	if err := c.tx.TouchRepository(p.repository, c.now()); err != nil {
		return err
	}
	return writeNotes(c.tx, p.notes)
}

// TagPage returns up to limit tags of the repository after the tag after, in order o, including hidden
// ones. A repository that does not exist has none.
func (p *Purge) TagPage(ctx context.Context, o TagOrder, after Tag, limit int) ([]Tag, error) {
	o.After = after
	return metadb.Read(ctx, p.s.db, func(tx *metadb.Tx) ([]Tag, error) { return tx.Tags(p.repository, o, limit, 0) })
}
