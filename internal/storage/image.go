package storage

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// An Image is content that becomes visible together in a repository.
type Image struct {
	Repository string
	Blobs      []digest.Digest // that other repositories have, and this one gets
	Manifests  []Put           // children first, without tags
	Root       digest.Digest   // that the tags name
	Tags       []string        // set last
	KeepTags   bool            // a tag that names another manifest is an error: [oci.ErrDenied]
}

// PutImages makes images visible, in their order and in one transaction, in which it then runs
// also. Each manifest and tag is treated as by [Storage.PutManifest] and [Storage.SetTag]. If
// any of them is refused, no image is stored. A tag that a client changed here, and that was not sent
// yet, is refused with [ErrUnsent].
func (s *Storage) PutImages(ctx context.Context, images []Image, also func(*metadb.Tx) error) error {
	return s.putImages(ctx, images, false, also)
}

func (s *Storage) putImages(ctx context.Context, images []Image, unlocked bool, also func(*metadb.Tx) error) error {
	if slices.ContainsFunc(images, func(im Image) bool { return len(im.Manifests) > 0 }) {
		if err := s.checkReserve(); err != nil {
			return err
		}
	}
	rows := make([][]preparedPut, len(images))
	for i, im := range images {
		if err := checkNames(im.Repository, im.Tags); err != nil {
			return err
		}
		for _, p := range im.Manifests {
			prepared, err := s.parseAndCheck(ctx, p)
			if err != nil {
				return err
			}
			rows[i] = append(rows[i], prepared)
		}
	}
	changed := map[string]bool{}
	err := s.write(ctx, func(tx *metadb.Tx) error {
		clear(changed)
		for i, im := range images {
			c := &change{Storage: s, tx: tx, repository: im.Repository, unlocked: unlocked}
			if len(im.Tags) > 0 {
				c.tagged = im.Root
			}
			if err := c.putImage(im, rows[i]); err != nil {
				return err
			}
			if err := c.observeContent(); err != nil {
				return err
			}
			changed[im.Repository] = changed[im.Repository] || c.seq > 0
		}
		return also(tx)
	})
	for i, im := range images {
		names := im.Tags[:len(im.Tags):len(im.Tags)]
		for _, p := range rows[i] {
			names = append(names, string(p.row.Digest))
		}
		s.cache.forget(im.Repository, names...)
	}
	if err != nil {
		return err
	}
	s.notifyWatchers(changed)
	return nil
}

// putImage stores an image of the change's repository.
func (c *change) putImage(im Image, manifests []preparedPut) error {
	for _, d := range im.Blobs {
		if _, err := c.tx.Blob(string(d)); err != nil {
			return mapNotFound(err, oci.ErrBlobUnknown)
		}
		if err := c.link(c.tx, im.Repository, d); err != nil {
			return err
		}
	}
	for _, p := range manifests {
		if _, err := c.put(p); err != nil {
			return err
		}
	}
	for _, tag := range im.Tags {
		if im.KeepTags {
			if err := checkTagUnmoved(c.tx, im.Repository, tag, im.Root); err != nil {
				return err
			}
		}
		if err := c.checkSent(tag); err != nil {
			return err
		}
		if err := c.putTag(tag, im.Root); err != nil {
			return err
		}
	}
	return nil
}
