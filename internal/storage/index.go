package storage

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// Held returns which of its children the index d holds here: all of them,
// unless a platform filter left some out; nil where there is no such index.
// What an index does not hold is, to it, as if it were not here.
func (s *Storage) Held(ctx context.Context, repository string, d digest.Digest) (held []digest.Digest, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		children, err := tx.Children(repository, string(d))
		for _, d := range manifests(children) {
			held = append(held, digest.Digest(d))
		}
		return err
	})
	return held, err
}

// manifests returns the digests of children that are manifests.
func manifests(children []metadb.Child) (all []string) {
	for _, c := range children {
		if c.Manifest {
			all = append(all, c.Digest)
		}
	}
	return all
}

// Indexes returns the indexes of repository that hold the manifest d.
func (s *Storage) Indexes(ctx context.Context, repository string, d digest.Digest) (all []digest.Digest, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.IndexesOf(repository, string(d))
		for _, row := range rows {
			all = append(all, digest.Digest(row))
		}
		return err
	})
	return all, err
}

// hold lets an index that is here hold the children, which are, and no others.
func (s *Storage) hold(tx *metadb.Tx, index metadb.Manifest, children []metadb.Child, origin string) error {
	if !oci.IsIndex(index.MediaType) {
		return nil
	}
	old, err := tx.Children(index.Repository, index.Digest)
	if err != nil {
		return err
	}
	byDigest := func(a, b metadb.Child) int { return strings.Compare(a.Digest, b.Digest) }
	held := slices.DeleteFunc(slices.SortedFunc(slices.Values(children), byDigest), func(c metadb.Child) bool { return c.LeftOut })
	if slices.Equal(old, held) {
		return nil
	}
	if err := tx.SetChildren(index.Repository, index.Digest, children); err != nil {
		return err
	}
	return s.noteIndex(tx, index.Repository, index.Digest, manifests(old), origin)
}

// noteIndex notes that what is below an index is other than before, where it
// held former, and so is what is below those that it is in: readers may know of
// them alone.
func (s *Storage) noteIndex(tx *metadb.Tx, repository, index string, former []string, origin string) error {
	seen := map[string]bool{index: true}
	for next := []string{index}; len(next) > 0; next = next[1:] {
		if err := s.note(tx, IndexChanged, repository, "", digest.Digest(next[0]), origin, former...); err != nil {
			return err
		}
		former = nil // the others hold what they held
		outer, err := tx.IndexesOf(repository, next[0])
		if err != nil {
			return err
		}
		for _, d := range outer {
			if !seen[d] {
				seen[d] = true
				next = append(next, d)
			}
		}
	}
	return nil
}
