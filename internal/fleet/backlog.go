package fleet

import (
	"cmp"
	"slices"
	"sort"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
)

const (
	// maxCounted is how many repositories are counted of those that changed and that a descendant has
	// not heard of.
	maxCounted = 50
	// maxMeasured is how many manifests of one repository are measured, those that changed last.
	maxMeasured = 200
	// maxBacklogs is how many backlogs are kept.
	maxBacklogs = 1000
)

// An unheard counts the changes that a descendant has not heard of.
type unheard struct {
	any   bool // there is one
	items int
	bytes int64 // of layers; the descendant may have some of them already
	more  bool  // there may be more of both
}

// unheardBy counts what changed and is not covered by the descendant's watermark. The counts are upper
// bounds, unless there may be more.
func (v descendant) unheardBy(c *storage.View) (u unheard, err error) {
	if v.changed > v.watermark && (v.watermark > 0 || v.InstanceID == "") {
		return unheard{any: true, more: true}, nil // it is not known what else it gets since then
	}
	key := unheardKey{v.subscription, v.watermark}
	u, known := v.cache.unheard[key]
	if !known {
		if u, err = v.countUnheard(c); err != nil {
			return u, err
		}
		v.cache.unheard[key] = u
	}
	u.any = u.any || v.changed > v.watermark
	return u, nil
}

// An unheardKey is everything on which the result of [descendant.countUnheard] depends.
type unheardKey struct {
	subscription string
	watermark    int64
}

func (v descendant) countUnheard(c *storage.View) (u unheard, err error) {
	if _, err := v.cache.changedSince(c, v.watermark); err != nil {
		return u, err
	}
	counted := map[string]bool{}
	for _, pattern := range v.patterns {
		for _, entry := range v.cache.matching[pattern] {
			if entry.Seq <= v.watermark {
				break
			}
			if counted[entry.Repository] || !v.mayRead(entry.Repository) {
				continue
			}
			b, err := v.backlogOf(c, entry)
			if err != nil {
				return u, err
			}
			if !b.concerns(v.watermark) {
				continue
			}
			if u.any = true; len(counted) == maxCounted {
				u.more = true
				return u, nil
			}
			counted[entry.Repository] = true
			b.addTo(&u, v.watermark)
		}
	}
	return u, nil
}

// A backlog says what a selection gets of one repository, by the sequence numbers of the changes. It
// is the same for all descendants with the same filters, whatever they have heard of.
type backlog struct {
	entry    storage.FeedEntry // of which it is the backlog
	last     int64             // the number of the last change to an item
	steps    []backlogStep     // the last change first
	removals []int64           // the numbers of the changes that removed items, the last first
	measured int64             // the bytes of changes up to this number are not all counted
}

// A backlogStep counts the items that changed at a number or later, and their layers that no item had
// before.
type backlogStep struct {
	seq   int64
	items int
	bytes int64
}

// concerns reports whether an item changed after a watermark.
func (b *backlog) concerns(watermark int64) bool {
	return b.last > watermark || watermark > 0 && len(b.removals) > 0 && b.removals[0] > watermark
}

// addTo counts what changed after a watermark.
func (b *backlog) addTo(u *unheard, watermark int64) {
	before := u.items
	n := sort.Search(len(b.steps), func(i int) bool { return b.steps[i].seq <= watermark })
	if n > 0 {
		u.items += b.steps[n-1].items
		u.bytes += b.steps[n-1].bytes
	}
	if watermark > 0 { // else it has nothing to remove
		u.items += sort.Search(len(b.removals), func(i int) bool { return b.removals[i] <= watermark })
	}
	u.more = u.more || b.measured > watermark || u.items == before
}

// backlogKey is everything on which a backlog depends, apart from the content of the repository.
type backlogKey struct{ repository, filters string }

// backlogOf returns the backlog of a repository for the descendant's filters. It reads the content of
// the repository only if that changed since the last call.
func (v descendant) backlogOf(c *storage.View, entry storage.FeedEntry) (*backlog, error) {
	key := backlogKey{entry.Repository, v.filters}
	if known := v.cache.backlogs[key]; known != nil && known.entry == entry {
		return known, nil
	}
	b, err := v.newBacklog(c, entry)
	if err != nil {
		return nil, err
	}
	if len(v.cache.backlogs) >= maxBacklogs {
		clear(v.cache.backlogs)
	}
	v.cache.backlogs[key] = b
	return b, nil
}

func (v descendant) newBacklog(c *storage.View, entry storage.FeedEntry) (*backlog, error) {
	b := &backlog{entry: entry}
	tags, err := v.tagsIn(c, entry.Repository, 0)
	if err != nil {
		return nil, err
	}
	if len(tags) > 0 {
		b.last = entry.RelistSeq
	}
	for i := range tags {
		tags[i].seq = max(tags[i].seq, tags[i].scopeSeq)
		b.last = max(b.last, tags[i].seq)
	}
	slices.SortFunc(tags, func(x, y selectedTag) int {
		return cmp.Or(cmp.Compare(y.seq, x.seq), cmp.Compare(x.key(), y.key()))
	})
	sizes, err := v.newLayers(c, b, tags)
	if err != nil {
		return nil, err
	}
	sum := backlogStep{}
	for i, t := range tags {
		sum.seq, sum.items, sum.bytes = t.seq, sum.items+1, sum.bytes+sizes[i]
		if n := len(b.steps); n > 0 && b.steps[n-1].seq == t.seq {
			b.steps[n-1] = sum
		} else {
			b.steps = append(b.steps, sum)
		}
	}
	return b, v.addRemovals(c, b)
}

// newLayers returns, for each tag, the bytes of the layers that no tag behind it has. It looks at the
// first tags only, and notes in b at which it ends.
func (v descendant) newLayers(c *storage.View, b *backlog, tags []selectedTag) ([]int64, error) {
	repository := b.entry.Repository
	listing, err := v.cache.listing(c, repository, v.path[0])
	if err != nil {
		return nil, err
	}
	type layer struct {
		first int // the index of the last of these tags that has it
		size  int64
	}
	layers, seen := map[digest.Digest]layer{}, map[digest.Digest]map[digest.Digest]int64{}
	for i, t := range tags {
		manifests := listing.Manifests(t.digest)
		if len(seen)+len(manifests) > maxMeasured {
			b.measured = t.seq
			break
		}
		for _, m := range manifests {
			if seen[m] == nil {
				if seen[m], err = c.BlobSizes(repository, m); err != nil {
					return nil, err
				}
			}
			for d, size := range seen[m] {
				layers[d] = layer{i, max(size, 0)}
			}
		}
	}
	sizes := make([]int64, len(tags))
	for _, l := range layers {
		sizes[l.first] += l.size
	}
	return sizes, nil
}

// addRemovals adds the removals of tags, or that of the whole repository, which is one item.
func (v descendant) addRemovals(c *storage.View, b *backlog) error {
	here, err := c.HasRepository(b.entry.Repository)
	if err != nil {
		return err
	}
	if !here {
		b.removals = []int64{b.entry.Seq}
		return nil
	}
	removed, err := v.removedTags(c, b.entry.Repository, 0)
	for _, r := range removed {
		b.removals = append(b.removals, r.Seq)
	}
	slices.SortFunc(b.removals, func(x, y int64) int { return cmp.Compare(y, x) })
	return err
}
