package storage

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// PutManifest stores a manifest and sets its tags, in one transaction. All content that the
// manifest refers to must be in its repository, except a subject, and blobs that
// [oci.MayBeAbsent]. Otherwise the error is [oci.ErrManifestBlobUnknown] with the absent
// digests. To put the same manifest again changes nothing, except that an index then holds the
// children that the last Put did not omit.
func (s *Storage) PutManifest(ctx context.Context, p Put) (*Manifest, error) {
	prepared, err := s.parseAndCheck(ctx, p)
	if err != nil {
		return nil, err
	}
	row := prepared.row
	if err := s.checkReserve(); err != nil {
		return nil, err
	}
	err = s.update(ctx, p.Repository, s.write, func(c *change) (err error) {
		c.records = s.sendsUp
		if len(p.Tags) > 0 {
			c.tagged = prepared.row.Digest
		}
		row, err = c.put(prepared)
		return err
	})
	if mayHaveWritten(err) {
		s.cache.forget(p.Repository, append(p.Tags, string(row.Digest))...)
	}
	if err != nil {
		return nil, err
	}
	return &row, nil
}

// A preparedPut is a manifest that was checked, and its row.
type preparedPut struct {
	Put
	parsed *oci.Manifest
	row    Manifest
}

// parseAndCheck checks a manifest, and returns it with its row. Blobs whose files were lost are
// taken out of service, and count as absent.
func (s *Storage) parseAndCheck(ctx context.Context, p Put) (preparedPut, error) {
	if err := checkNames(p.Repository, p.Tags); err != nil {
		return preparedPut{}, err
	}
	parsed, err := oci.ParseManifest(p.MediaType, p.Payload)
	if err != nil {
		return preparedPut{}, err
	}
	algorithm := digest.SHA256
	if p.Digest != "" {
		if _, err := oci.ParseDigest(string(p.Digest)); err != nil {
			return preparedPut{}, err
		}
		algorithm = p.Digest.Algorithm()
	}
	d := algorithm.FromBytes(p.Payload)
	if p.Digest != "" && d != p.Digest {
		return preparedPut{}, oci.ErrDigestInvalid.With("manifest has digest %s, not %s", d, p.Digest)
	}
	annotations, err := json.Marshal(parsed.Annotations)
	if err == nil {
		err = s.checkFiles(ctx, parsed.Blobs())
	}
	if err != nil {
		return preparedPut{}, err
	}
	row := Manifest{
		Repository: p.Repository, Digest: d, MediaType: parsed.MediaType, ArtifactType: parsed.ArtifactType,
		Annotations: string(annotations), Payload: p.Payload, Size: int64(len(p.Payload)), PushedAt: s.now(),
	}
	if parsed.Subject != nil {
		row.Subject = parsed.Subject.Digest
	}
	return preparedPut{p, parsed, row}, nil
}

// checkNames returns an error if the name of a repository or a tag is invalid.
func checkNames(repository string, tags []string) error {
	if err := oci.CheckRepository(repository); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := oci.CheckTag(tag); err != nil {
			return err
		}
	}
	return nil
}

// put stores a manifest and sets its tags. It returns the manifest's row.
func (c *change) put(p preparedPut) (Manifest, error) {
	row := p.row
	if err := c.checkWritable(); err != nil {
		return row, err
	}
	children, err := p.checkedChildren(c.tx)
	if err != nil {
		return row, err
	}
	if err := c.tx.TouchRepository(p.Repository, c.now()); err != nil {
		return row, err
	}
	known, err := c.tx.HasManifest(p.Repository, string(row.Digest))
	switch {
	case err != nil:
	case known:
		if row, err = c.tx.Manifest(p.Repository, string(row.Digest)); err == nil {
			err = c.setChildren(row, children)
		}
	default:
		row.WasReferenced = len(p.Tags) > 0 || p.Pending
		row, err = c.addManifest(row, children)
		if err == nil && !row.WasReferenced {
			err = c.recordManifest(string(row.Digest), row.Digest)
		}
	}
	if err != nil {
		return row, err
	}
	for _, tag := range p.Tags {
		if err := c.setTag(tag, row.Digest); err != nil {
			return row, err
		}
	}
	return row, c.referenced(manifests(children)...)
}

// addManifest stores a new manifest.
func (c *change) addManifest(row Manifest, children []metadb.Child) (_ Manifest, err error) {
	if row.Seq, err = c.number(); err != nil {
		return row, err
	}
	c.added = row.Digest
	_, err = c.tx.DamageOf(row.Repository, string(row.Digest))
	if err == nil {
		err = c.healed()
	}
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return row, err
	}
	if _, err := c.tx.PutManifest(row, children); err != nil {
		return row, err
	}
	if !row.WasReferenced {
		if err := c.released(row.Digest); err != nil {
			return row, err
		}
	}
	if row.Digest != c.tagged {
		c.pushed("", row.Digest)
	}
	isSubject, err := c.tx.IsSubject(row.Repository, string(row.Digest))
	if err == nil && isSubject { // its referrers were pushed before
		return row, c.relist()
	}
	if err == nil && len(manifests(children)) > 0 { // an index can make children reachable
		err = c.relistReferrers()
	}
	return row, err
}

// checkedChildren returns the content that the manifest refers to, after it has checked that the
// repository has all children that are not omitted.
func (p preparedPut) checkedChildren(tx *metadb.Tx) ([]metadb.Child, error) {
	var children []metadb.Child
	var blobs, manifests []string
	for _, b := range p.parsed.Blobs() {
		if !oci.MayBeAbsent(b) {
			blobs = append(blobs, string(b.Digest))
		}
		children = append(children, metadb.Child{Digest: string(b.Digest)})
	}
	omitted, seen := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, d := range p.Omitted {
		omitted[d] = true
	}
	for _, m := range p.parsed.Manifests {
		if seen[m.Digest] {
			continue
		}
		seen[m.Digest] = true
		children = append(children,
			metadb.Child{Digest: string(m.Digest), Manifest: !omitted[m.Digest], Omitted: omitted[m.Digest]})
		if !omitted[m.Digest] {
			manifests = append(manifests, string(m.Digest))
		}
	}
	missing, err := tx.AbsentBlobs(p.Repository, blobs)
	if err != nil {
		return nil, err
	}
	absent, err := tx.AbsentManifests(p.Repository, manifests)
	if err != nil {
		return nil, err
	}
	if missing = append(missing, absent...); len(missing) > 0 {
		return nil, oci.ErrManifestBlobUnknown.WithDetail(map[string][]string{"missing": missing})
	}
	return children, nil
}
