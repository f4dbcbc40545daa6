package metadb

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Manifest is a row of manifests: a manifest, byte for byte.
type Manifest struct {
	Repository   string
	Digest       digest.Digest
	MediaType    string
	ArtifactType string
	Subject      digest.Digest // "" is none
	Annotations  string        // a JSON object; only [Tx.Referrers] reads it
	Payload      []byte        // must not be modified; nil in lists, and if it is larger than [MaxInRow]
	Size         int64         // of the payload, in bytes
	PushedAt     time.Time
	Locks        Locks

	Seq           int64 // sequence number of the change that added it, or last changed its children or locks
	WasReferenced bool  // a tag, an index or a subject has referenced it
	Damaged       bool  // the payload does not match the digest
}

// A Child is content that a manifest refers to.
type Child struct {
	Digest   string
	Manifest bool // a manifest that an index holds; else a blob
	Omitted  bool // a manifest that an index lists, but does not hold
}

func (c *Child) fields() []any { return []any{&c.Digest, &c.Manifest} }

// The kinds of children in manifest_children.
const (
	childBlob = iota
	childHeld
	childOmitted
)

func (c Child) kind() int {
	switch {
	case c.Omitted:
		return childOmitted
	case c.Manifest:
		return childHeld
	}
	return childBlob
}

const (
	manifestKind = `manifests.repository, manifests.digest, media_type, artifact_type, subject, `
	manifestRest = `, size, pushed_at, manifests.seq, was_referenced, damaged`
	manifestBody = manifestKind + `''` + manifestRest

	referrerColumns = manifestKind + `annotations` + manifestRest + `, manifests.locks, NULL`
	manifestHead    = manifestBody + `, manifests.locks, NULL`
	manifestColumns = manifestBody + `, manifests.locks, payload`
)

func (m *Manifest) fields() []any {
	return []any{
		&m.Repository, (*string)(&m.Digest), &m.MediaType, &m.ArtifactType, (*string)(&m.Subject), &m.Annotations,
		&m.Size,
		at(&m.PushedAt), &m.Seq, &m.WasReferenced, &m.Damaged, &m.Locks, &m.Payload,
	}
}

// Manifest returns the manifest digest of repository.
func (tx *Tx) Manifest(repository, digest string) (Manifest, error) {
	return get[Manifest](tx, "read manifest "+repository+"@"+digest,
		`SELECT `+manifestColumns+` FROM manifests WHERE repository = $1 AND digest = $2`, repository, digest)
}

// ManifestByDigest returns the manifest digest of repository. Its locks are those of the
// manifest and of the repository together.
func (tx *Tx) ManifestByDigest(repository, digest string) (Manifest, error) {
	return get[Manifest](tx, "read manifest "+repository+"@"+digest,
		`SELECT `+manifestBody+`, manifests.locks | repositories.locks, payload
		FROM manifests JOIN repositories ON repositories.name = manifests.repository
		WHERE manifests.repository = $1 AND manifests.digest = $2`, repository, digest)
}

// ManifestByTag returns the manifest that the tag names. Its locks are those of the manifest,
// of the tag and of the repository together.
func (tx *Tx) ManifestByTag(repository, tag string) (Manifest, error) {
	return get[Manifest](tx, "read manifest "+repository+":"+tag,
		`SELECT `+manifestBody+`, manifests.locks | repositories.locks | tags.locks, payload
		FROM tags JOIN manifests ON manifests.repository = tags.repository AND manifests.digest = tags.digest
		JOIN repositories ON repositories.name = tags.repository
		WHERE tags.repository = $1 AND tags.name = $2`, repository, tag)
}

// AbsentManifests returns, in their order, those of digests that are not manifests of
// repository, or that are damaged. All digests must be different.
func (tx *Tx) AbsentManifests(repository string, digests []string) ([]string, error) {
	return tx.absent("read manifests of "+repository,
		`SELECT digest FROM manifests WHERE repository = $1 AND damaged = 0 AND digest IN (%s)`, repository, digests)
}

// HasManifest reports whether repository has the manifest digest, and the manifest is not
// damaged.
func (tx *Tx) HasManifest(repository, digest string) (bool, error) {
	return get[bool](tx, "read manifest "+repository+"@"+digest,
		`SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND digest = $2 AND damaged = 0)`, repository,
		digest)
}

// KnowsManifest reports whether repository has the manifest digest. It may be damaged.
func (tx *Tx) KnowsManifest(repository, digest string) (bool, error) {
	return get[bool](tx, "read manifest "+repository+"@"+digest,
		`SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND digest = $2)`, repository, digest)
}

// Manifests returns up to limit manifests of repository after the digest after, by digest,
// without their payloads.
func (tx *Tx) Manifests(repository, after string, limit int) ([]Manifest, error) {
	return list[Manifest](tx, "list manifests of "+repository, `SELECT `+manifestHead+` FROM manifests
		WHERE repository = $1 AND digest > $2 ORDER BY digest LIMIT $3`, repository, after, limit)
}

// A ManifestOrder orders the manifests of a repository. The zero value is by digest.
type ManifestOrder struct {
	ByTime bool     // by the time of their push, then by digest; else by digest
	Newest bool     // with ByTime, the newest first
	After  Manifest // the last manifest of the page before; zero is the first page
}

// ManifestsInOrder is [Tx.Manifests] in the order o. It leaves out manifests with a lock in hidden.
func (tx *Tx) ManifestsInOrder(repository string, o ManifestOrder, limit int, hidden Locks) ([]Manifest, error) {
	query := `SELECT ` + manifestHead + ` FROM manifests WHERE repository = $1 AND locks & $2 = 0`
	args := []any{repository, uint8(hidden), limit}
	after, sign, order := o.After.Digest != "", ">", ""
	if o.ByTime && o.Newest {
		sign, order = "<", " DESC"
	}
	switch {
	case after && o.ByTime:
		query += ` AND (pushed_at, digest) ` + sign + ` ($4, $5)`
		args = append(args, millis(o.After.PushedAt), string(o.After.Digest))
	case after:
		query += ` AND digest > $4`
		args = append(args, string(o.After.Digest))
	}
	if o.ByTime {
		query += ` ORDER BY pushed_at` + order + `, digest` + order
	} else {
		query += ` ORDER BY digest`
	}
	return list[Manifest](tx, "list manifests of "+repository, query+` LIMIT $3`, args...)
}

// An Edge is a child of an index.
type Edge struct {
	Index, Child string
	Omitted      bool // the index lists the child, but does not hold it
}

func (e *Edge) fields() []any { return []any{&e.Index, &e.Child, &e.Omitted} }

// IndexEdges returns the children of every index of repository.
func (tx *Tx) IndexEdges(repository string) ([]Edge, error) {
	return list[Edge](tx, "list children of indexes of "+repository,
		`SELECT parent, child, kind = 2 FROM manifest_children
		WHERE repository = $1 AND kind > 0 ORDER BY parent, child`, repository)
}

// UnreferencedManifests returns up to limit manifests of repository after the digest after that
// no tag names and no index holds, by digest, without their payloads.
func (tx *Tx) UnreferencedManifests(repository, after string, limit int) ([]Manifest, error) {
	return list[Manifest](tx, "list unreferenced manifests of "+repository, `SELECT `+manifestHead+` FROM manifests
		WHERE repository = $1 AND digest > $2
		AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = manifests.repository AND t.digest = manifests.digest)
		AND NOT EXISTS (SELECT 1 FROM manifest_children c
			WHERE c.child = manifests.digest AND c.repository = manifests.repository AND c.kind = 1)
		ORDER BY digest LIMIT $3`, repository, after, limit)
}

// NeverReferenced reports whether no tag, no index and no subject has ever referenced the
// manifest.
func (tx *Tx) NeverReferenced(repository, digest string) (bool, error) {
	return get[bool](tx, "read references to "+repository+"@"+digest,
		`SELECT EXISTS (SELECT 1 FROM manifests m WHERE repository = $1 AND digest = $2 AND was_referenced = 0
		AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject))`,
		repository, digest)
}

// HasReferrers reports whether any manifest of repository has a subject.
func (tx *Tx) HasReferrers(repository string) (bool, error) {
	return get[bool](tx, "look for referrers in "+repository,
		`SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND subject > '')`, repository)
}

// MarkReferenced records permanently that a tag or an index has referenced the manifests
// digests. It returns those that were not marked before.
func (tx *Tx) MarkReferenced(repository string, digests ...string) (first []string, err error) {
	return tx.listIn("mark manifests of "+repository+" as referenced", `UPDATE manifests SET was_referenced = 1
		WHERE repository = $1 AND was_referenced = 0 AND digest IN (%s) RETURNING digest`, repository, digests)
}

// MarkUnreferenced makes a manifest an item of its own, from the change with the sequence number seq on,
// although a tag or an index may have referenced it before.
func (tx *Tx) MarkUnreferenced(repository, digest string, seq int64) error {
	tx.Changed(RepositoryTopic, repository)
	return tx.one("list manifest "+repository+"@"+digest,
		`UPDATE manifests SET was_referenced = 0, seq = $3 WHERE repository = $1 AND digest = $2`, repository, digest,
		seq)
}

// MarkReferrers records permanently that the subject has referenced the manifests that refer to
// it, because the subject may be deleted.
func (tx *Tx) MarkReferrers(repository, subject string) error {
	return tx.do("mark referrers of "+repository+"@"+subject,
		`UPDATE manifests SET was_referenced = 1 WHERE repository = $1 AND subject = $2 AND was_referenced = 0`,
		repository, subject)
}

// IsUnreferenced reports whether no tag names the manifest and no index holds it.
func (tx *Tx) IsUnreferenced(repository, digest string) (bool, error) {
	return get[bool](tx, "read references to "+repository+"@"+digest,
		`SELECT NOT EXISTS (SELECT 1 FROM tags WHERE repository = $1 AND digest = $2) AND NOT EXISTS
		(SELECT 1 FROM manifest_children WHERE child = $2 AND repository = $1 AND kind = 1)`, repository, digest)
}

// Referrers returns up to limit manifests of repository whose subject is digest, oldest first,
// with their annotations and without their payloads. It returns those after the digest after,
// or from the first on if after is no referrer; and only those of artifactType, unless that is
// empty.
func (tx *Tx) Referrers(repository, digest, artifactType, after string, limit int) ([]Manifest, error) {
	return list[Manifest](tx, "list referrers of "+repository+"@"+digest, `SELECT `+referrerColumns+` FROM manifests
		WHERE repository = $1 AND subject = $2 AND ($3 = '' OR artifact_type = $3)
		AND (pushed_at, digest) > (COALESCE((SELECT pushed_at FROM manifests
			WHERE repository = $1 AND digest = $4 AND subject = $2), -1), $4)
		ORDER BY pushed_at, digest LIMIT $5`, repository, digest, artifactType, after, limit)
}

// ReferrerDigests returns the digests of all manifests of repository whose subject is digest,
// oldest first.
func (tx *Tx) ReferrerDigests(repository, digest string) ([]string, error) {
	return list[string](tx, "list referrers of "+repository+"@"+digest, `SELECT digest FROM manifests
		WHERE repository = $1 AND subject = $2 ORDER BY pushed_at, digest`, repository, digest)
}

// IsSubject reports whether any manifest of repository has digest as its subject.
func (tx *Tx) IsSubject(repository, digest string) (bool, error) {
	return get[bool](tx, "look for referrers of "+repository+"@"+digest,
		`SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND subject = $2)`, repository, digest)
}

// Children returns the children of a manifest, by digest, without those that an index does not
// hold.
func (tx *Tx) Children(repository, digest string) ([]Child, error) {
	return list[Child](tx, "list children of "+repository+"@"+digest,
		`SELECT child, kind = 1 FROM manifest_children
		WHERE repository = $1 AND parent = $2 AND kind < 2 ORDER BY child`, repository, digest)
}

// IsOmitted reports whether an index of repository lists the manifest digest, but does not hold
// it.
func (tx *Tx) IsOmitted(repository, digest string) (bool, error) {
	return get[bool](tx, "read references to "+digest, `SELECT EXISTS (SELECT 1 FROM manifest_children
		WHERE child = $1 AND repository = $2 AND kind = 2)`, digest, repository)
}

// PutManifest writes a new manifest and its children, and reports whether it was new. A row
// that exists is kept, unless it is damaged: then its payload is replaced. The manifest counts
// as referenced if m says so, or if an index holds it. The caller marks its children as
// referenced.
func (tx *Tx) PutManifest(m Manifest, children []Child) (bool, error) {
	tx.Changed(RepositoryTopic, m.Repository)
	name := m.Repository + "@" + string(m.Digest)
	inRow, chunks := splitPayload(m.Payload)
	n, err := tx.exec(`INSERT INTO manifests
		(repository, digest, media_type, artifact_type, subject, annotations, payload, size, pushed_at, seq,
			was_referenced, locks)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $11 OR EXISTS (SELECT 1 FROM manifest_children
			WHERE repository = $1 AND child = $2 AND kind = 1) THEN 1 ELSE 0 END, `+inheritedLocks("$1", "$2", "0")+`)
		ON CONFLICT (repository, digest) DO UPDATE SET payload = excluded.payload, size = excluded.size, damaged = 0
		WHERE manifests.damaged = 1`,
		m.Repository, string(m.Digest), m.MediaType, m.ArtifactType, string(m.Subject), m.Annotations, inRow,
		len(m.Payload), millis(m.PushedAt), m.Seq, m.WasReferenced)
	if err == nil && n > 0 {
		err = tx.putChunks(m.Repository, string(m.Digest), chunks)
	}
	if err != nil || n == 0 {
		return false, wrap(err, "write manifest "+name)
	}
	if err = tx.forgetDamage(m.Repository, string(m.Digest)); err == nil {
		err = tx.addChildren(m.Repository, string(m.Digest), children)
	}
	return err == nil, wrap(err, "write children of "+name)
}

// SetChildren replaces the children of an index, in the change with the sequence number seq.
func (tx *Tx) SetChildren(repository, index string, children []Child, seq int64) error {
	tx.Changed(RepositoryTopic, repository)
	_, err := tx.exec(`UPDATE manifests SET seq = $3 WHERE repository = $1 AND digest = $2`, repository, index, seq)
	if err == nil {
		_, err = tx.exec(`DELETE FROM manifest_children WHERE repository = $1 AND parent = $2`, repository, index)
	}
	if err == nil {
		err = tx.addChildren(repository, index, children)
	}
	return wrap(err, "write children of "+repository+"@"+index)
}

func (tx *Tx) addChildren(repository, parent string, children []Child) error {
	for some := range slices.Chunk(children, maxValues) {
		var rows strings.Builder
		args := []any{repository, parent}
		for i, c := range some {
			if i > 0 {
				rows.WriteString(", ")
			}
			fmt.Fprintf(&rows, "($1, $2, $%d, %d)", i+3, c.kind())
			args = append(args, c.Digest)
		}
		if _, err := tx.exec(`INSERT INTO manifest_children (repository, parent, child, kind) VALUES `+rows.String()+`
			ON CONFLICT (repository, parent, child) DO NOTHING`, args...); err != nil {
			return err
		}
	}
	return nil
}

// SetManifestLocks replaces the locks of a manifest, in the change with the sequence number seq.
func (tx *Tx) SetManifestLocks(repository, digest string, locks Locks, seq int64) error {
	tx.Changed(RepositoryTopic, repository)
	return tx.one("lock manifest "+repository+"@"+digest, `UPDATE manifests SET locks = $3, seq = $4
		WHERE repository = $1 AND digest = $2`, repository, digest, uint8(locks), seq)
}

// HasLockedManifests reports whether any manifest of repository is locked.
func (tx *Tx) HasLockedManifests(repository string) (bool, error) {
	return get[bool](tx, "look for locked manifests in "+repository,
		`SELECT EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND locks <> 0)`, repository)
}

// DeleteManifest deletes a manifest and the rows of its children. The links of its blobs are as
// young as now afterwards: a client that saw a blob before has the grace period to push another
// manifest that needs it. The caller deletes the manifest's tags before.
func (tx *Tx) DeleteManifest(repository, digest string, now Uptime) error {
	tx.Changed(RepositoryTopic, repository)
	action := "delete manifest " + repository + "@" + digest
	if err := tx.do(action, `UPDATE repository_blobs SET linked_at = $3 WHERE repository = $1 AND digest IN
		(SELECT child FROM manifest_children WHERE repository = $1 AND parent = $2 AND kind = 0)`,
		repository, digest, now); err != nil {
		return err
	}
	if err := tx.do(action,
		`DELETE FROM manifest_children WHERE repository = $1 AND parent = $2`, repository, digest); err != nil {
		return err
	}
	return tx.one(action, `DELETE FROM manifests WHERE repository = $1 AND digest = $2`, repository, digest)
}

// ParentOf returns a manifest of repository that refers to digest, or "".
func (tx *Tx) ParentOf(repository, digest string) (string, error) {
	// The condition on kind makes SQLite use an index that finds the child first. Otherwise it
	// reads all children in the repository.
	return get[string](tx, "read references to "+digest, `SELECT COALESCE((SELECT parent FROM manifest_children
		WHERE child = $1 AND repository = $2 AND kind IN (0, 1) LIMIT 1), '')`, digest, repository)
}

// IndexesOf returns the indexes of repository that hold the manifest digest.
func (tx *Tx) IndexesOf(repository, digest string) ([]string, error) {
	return list[string](tx, "list indexes of "+repository+"@"+digest, `SELECT parent FROM manifest_children
		WHERE child = $1 AND repository = $2 AND kind = 1`, digest, repository)
}

// TotalOfManifests returns the number and the bytes of all manifests in service.
func (tx *Tx) TotalOfManifests() (Total, error) {
	return get[Total](tx, "count manifests", `SELECT COUNT(*), COALESCE(SUM(size), 0) FROM manifests WHERE damaged = 0`)
}

// ManifestsAfter returns up to limit manifests of all repositories after (repository, digest),
// in that order, without the damaged ones.
func (tx *Tx) ManifestsAfter(repository, digest string, limit int) ([]ManifestRef, error) {
	return list[ManifestRef](tx, "list manifests", `SELECT repository, digest FROM manifests
		WHERE (repository, digest) > ($1, $2) AND damaged = 0
		ORDER BY repository, digest LIMIT $3`, repository, digest, limit)
}

// A ChildBlob is a blob that a manifest refers to.
type ChildBlob struct {
	Digest string
	Size   int64 // -1 if the blob is not here
}

func (c *ChildBlob) fields() []any { return []any{&c.Digest, &c.Size} }

// ChildBlobs returns the blobs that a manifest refers to, by digest.
func (tx *Tx) ChildBlobs(repository, digest string) ([]ChildBlob, error) {
	return list[ChildBlob](tx, "list blobs of "+repository+"@"+digest, `SELECT c.child, COALESCE(b.size, -1)
		FROM manifest_children c LEFT JOIN blobs b ON b.digest = c.child
		WHERE c.repository = $1 AND c.parent = $2 AND c.kind = 0 ORDER BY c.child`, repository, digest)
}
