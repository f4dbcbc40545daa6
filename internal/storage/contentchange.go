package storage

import (
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// A ContentChange is a tag or a manifest that was pushed or deleted. A tag that moves is pushed.
type ContentChange struct {
	Repository string
	Tag        string        // "" is a manifest without a tag in the same change
	Digest     digest.Digest // "" is the deletion of a repository that has too much content to list
	MediaType  string        // of the manifest; "" is not known
	Size       int64         // of the manifest, in bytes; 0 is not known
	Deleted    bool
}

// A ContentObserver is called in the transaction of each change of content. If it fails, so does
// the change.
type ContentObserver func(tx *metadb.Tx, c ContentChange) error

// maxListedChanges is how many tags, and how many manifests, a deletion of a repository lists.
const maxListedChanges = 1000

// pushed notes that the change pushes a tag or a manifest.
func (c *change) pushed(tag string, d digest.Digest) {
	c.content = append(c.content, ContentChange{Repository: c.repository, Tag: tag, Digest: d})
}

// deleted notes that the change deletes a tag or a manifest.
func (c *change) deleted(tag string, m Manifest) {
	c.content = append(c.content, ContentChange{
		Repository: c.repository, Tag: tag, Digest: m.Digest, MediaType: m.MediaType, Size: m.Size, Deleted: true,
	})
}

// deletedAll notes that the change deletes the repository with its content.
func (c *change) deletedAll() error {
	if c.observe == nil {
		return nil
	}
	tags, err := c.tx.Tags(c.repository, TagOrder{}, maxListedChanges+1, 0)
	if err != nil {
		return err
	}
	manifests, err := c.tx.Manifests(c.repository, "", maxListedChanges+1)
	if err != nil {
		return err
	}
	if len(tags) > maxListedChanges || len(manifests) > maxListedChanges {
		c.deleted("", Manifest{})
		return nil
	}
	for _, tag := range tags {
		c.deleted(tag.Name, Manifest{Digest: tag.Digest})
	}
	for _, m := range manifests {
		c.deleted("", m)
	}
	return nil
}

// observeContent passes the noted changes to the observer.
func (c *change) observeContent() error {
	if c.observe == nil {
		return nil
	}
	for _, change := range c.content {
		if err := c.observe(c.tx, change); err != nil {
			return err
		}
	}
	return nil
}
