package gateway

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// An Item is a tag or an untagged manifest that a connected registry gets.
type Item struct {
	wire.Item
	// Seq is the number of the last change to the item. Such a change sets the tag, adds the
	// manifest, changes the locks of either, or changes the children that an index below the item holds.
	Seq int64
}

// Name returns the tag or, without a tag, the digest.
func (i Item) Name() string { return cmp.Or(i.Tag, string(i.Digest)) }

// A Selection is what a filter selects in one repository.
type Selection struct {
	Items []Item // by name
	kept  map[digest.Digest][]digest.Digest
}

// Manifests returns the manifests that are sent with the manifest d: it, and those that an index
// leads to.
func (s *Selection) Manifests(d digest.Digest) []digest.Digest {
	all, seen := []digest.Digest{d}, map[digest.Digest]bool{d: true}
	for i := 0; i < len(all); i++ {
		for _, child := range s.kept[all[i]] {
			if !seen[child] {
				seen[child] = true
				all = append(all, child)
			}
		}
	}
	return all
}

// Select returns what f selects in one repository. The result depends only on the state of the repository and on f:
//
//   - A tag is selected by its name and, with keep-last, by its age.
//   - If f does not select every tag, a tag that belongs to a manifest, such as a
//     signature of cosign, is selected if that manifest is reachable.
//   - An untagged manifest is selected if its subject is reachable. It is also
//     selected if nothing ever referenced it and f selects everything.
//   - A locked manifest is selected, beside the tags that lead to it, if it is reachable.
//
// A manifest is reachable if a selected item leads to it: through a tag, through
// an index that keeps it, or through its subject.
func Select(v *storage.View, repository string, f subscription.Filter) (*Selection, error) {
	s, err := selectFrom(v, repository, f)
	if err != nil {
		return nil, err
	}
	return &Selection{s.items(), s.kept}, nil
}

// SelectItems returns the items of [Select].
func SelectItems(v *storage.View, repository string, f subscription.Filter) ([]Item, error) {
	s, err := Select(v, repository, f)
	if err != nil {
		return nil, err
	}
	return s.Items, nil
}

// selectFrom returns the selector of a repository, after its work.
func selectFrom(v *storage.View, repository string, f subscription.Filter) (*selector, error) {
	s, err := readRepository(v, repository, f)
	if err != nil {
		return nil, err
	}
	s.selectTags()
	for _, m := range s.manifests {
		if s.unreferenced(m) {
			s.markReachable(m.Digest)
		}
	}
	s.followReachable()
	return s, nil
}

// A selector selects the items of one repository.
type selector struct {
	filter    subscription.Filter
	tags      []storage.Tag
	manifests []storage.Manifest
	present   map[digest.Digest]bool
	seq       map[digest.Digest]int64           // of the last change to each index
	kept      map[digest.Digest][]digest.Digest // children of each index that are sent with it
	omitted   map[digest.Digest][]digest.Digest // the other children
	referrers map[digest.Digest][]digest.Digest // by subject
	attached  map[digest.Digest][]storage.Tag   // tags that belong to a manifest and are selected with it

	selected  map[string]bool // tags
	reachable map[digest.Digest]bool
	pending   []digest.Digest // reachable manifests that were not followed yet
}

// readRepository reads everything on which the selection depends.
func readRepository(v *storage.View, repository string, f subscription.Filter) (s *selector, err error) {
	s = &selector{
		filter: f, present: map[digest.Digest]bool{}, seq: map[digest.Digest]int64{},
		kept:    map[digest.Digest][]digest.Digest{},
		omitted: map[digest.Digest][]digest.Digest{}, referrers: map[digest.Digest][]digest.Digest{},
		attached: map[digest.Digest][]storage.Tag{}, selected: map[string]bool{}, reachable: map[digest.Digest]bool{},
	}
	if s.tags, err = v.Tags(repository); err != nil {
		return nil, err
	}
	if s.manifests, err = v.Manifests(repository); err != nil {
		return nil, err
	}
	for _, m := range s.manifests {
		s.present[m.Digest] = true
		if m.Subject != "" {
			s.referrers[m.Subject] = append(s.referrers[m.Subject], m.Digest)
		}
	}
	indexes, err := v.Indexes(repository)
	if err != nil {
		return nil, err
	}
	for _, m := range s.manifests {
		if _, ok := indexes[m.Digest]; ok {
			s.seq[m.Digest] = m.Seq
		}
	}
	for index, children := range indexes {
		if err := s.readIndex(v, repository, index, children); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readIndex sorts the children of an index into kept and omitted ones. Children
// are kept if the index holds them here and the platforms include them.
func (s *selector) readIndex(
	v *storage.View, repository string, index digest.Digest, children storage.IndexChildren,
) error {
	s.kept[index], s.omitted[index] = children.Held, children.Omitted
	if s.filter.Platforms.All() {
		return nil
	}
	m, err := v.Manifest(repository, index)
	if err != nil {
		return err
	}
	parsed, err := v.ParseManifest(m)
	if m.Damaged || oci.AsError(err) != nil {
		return nil // no child gets it until it is whole; the other manifests must not wait for it
	}
	if err != nil {
		return err
	}
	leftOut := s.filter.Platforms.Omitted(parsed.Manifests)
	s.kept[index], s.omitted[index] = nil, slices.Clip(children.Omitted)
	for _, d := range children.Held {
		if leftOut[d] {
			s.omitted[index] = append(s.omitted[index], d)
		} else {
			s.kept[index] = append(s.kept[index], d)
		}
	}
	return nil
}

// selectTags selects tags by their names.
func (s *selector) selectTags() {
	var candidates []storage.Tag
	for _, t := range s.tags {
		subject, belongs := subscription.AttachedTo(t.Name)
		switch {
		case s.filter.Tags.All():
			s.selectTag(t)
		case belongs:
			s.attached[subject] = append(s.attached[subject], t)
		case s.filter.Tags.Matches(t.Name):
			candidates = append(candidates, t)
		}
	}
	if n := s.filter.Tags.KeepLast(); n > 0 && len(candidates) > n {
		slices.SortFunc(candidates, func(a, b storage.Tag) int {
			return cmp.Or(b.UpdatedAt.Compare(a.UpdatedAt), cmp.Compare(b.Name, a.Name))
		})
		candidates = candidates[:n]
	}
	for _, t := range candidates {
		s.selectTag(t)
	}
}

func (s *selector) selectTag(t storage.Tag) {
	s.selected[t.Name] = true
	s.markReachable(t.Digest)
}

// unreferenced reports whether a manifest is selected because it was only pushed
// by digest, and nothing ever referenced it. A filter never selects such manifests.
func (s *selector) unreferenced(m storage.Manifest) bool {
	return s.filter.Tags.All() && s.filter.Platforms.All() && !m.WasReferenced && !s.present[m.Subject]
}

func (s *selector) markReachable(d digest.Digest) {
	if !s.reachable[d] {
		s.reachable[d] = true
		s.pending = append(s.pending, d)
	}
}

// followReachable marks everything to which reachable manifests lead.
func (s *selector) followReachable() {
	for len(s.pending) > 0 {
		d := s.pending[len(s.pending)-1]
		s.pending = s.pending[:len(s.pending)-1]
		for _, child := range s.kept[d] {
			s.markReachable(child)
		}
		for _, referrer := range s.referrers[d] {
			s.markReachable(referrer)
		}
		for _, t := range s.attached[d] {
			s.selectTag(t)
		}
	}
}

// items returns the selected items.
func (s *selector) items() (all []Item) {
	for _, t := range s.tags {
		if s.selected[t.Name] {
			all = append(all, s.item(t.Name, t.Digest, t.Locks, t.Seq))
		}
	}
	for _, m := range s.manifests {
		if m.Subject != "" && s.reachable[m.Subject] || s.unreferenced(m) || m.Locks != 0 && s.reachable[m.Digest] {
			all = append(all, s.item("", m.Digest, m.Locks, m.Seq))
		}
	}
	slices.SortFunc(all, func(a, b Item) int { return cmp.Compare(a.Name(), b.Name()) })
	return all
}

func (s *selector) item(tag string, d digest.Digest, locks storage.Locks, seq int64) Item {
	part, changed := s.part(d)
	return Item{wire.Item{Tag: tag, Digest: d, Part: part, Locks: int(locks)}, max(seq, changed)}
}

// part identifies the children that are sent with an index and with the indexes
// in it; "" is all of them. The number is of the last change to any of these
// indexes.
func (s *selector) part(d digest.Digest) (part string, seq int64) {
	var omitted []string
	seen := map[digest.Digest]bool{}
	var collect func(digest.Digest)
	collect = func(index digest.Digest) {
		if seen[index] {
			return
		}
		seen[index] = true
		seq = max(seq, s.seq[index])
		for _, child := range s.omitted[index] {
			omitted = append(omitted, string(index)+" "+string(child))
		}
		for _, child := range s.kept[index] {
			collect(child)
		}
	}
	if collect(d); len(omitted) == 0 {
		return "", seq
	}
	slices.Sort(omitted)
	h := sha256.New()
	for _, line := range omitted {
		h.Write([]byte(line + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), seq
}
