package metadb

import "time"

// A Damage is a row of damaged: content that is lost or does not match its digest. It is not
// served.
type Damage struct {
	Repository string // of a manifest; "" of a blob
	Digest     string
	Size       int64  // bytes
	Reason     string // for people
	FoundAt    time.Time
}

const damageColumns = `repository, digest, size, reason, found_at`

func (d *Damage) fields() []any {
	return []any{&d.Repository, &d.Digest, &d.Size, &d.Reason, at(&d.FoundAt)}
}

// Conditions on a row of damaged.
const (
	// damagedManifest holds for a manifest that a repository has.
	damagedManifest = `EXISTS (SELECT 1 FROM manifests m
		WHERE m.repository = damaged.repository AND m.digest = damaged.digest AND m.damaged = 1)`
	// keptDamage holds for content that a repository has: it links the blob, or has the manifest.
	keptDamage = `(repository = '' AND EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = damaged.digest)
		OR ` + damagedManifest + `)`
	// neededDamage holds for content that an image needs: a manifest refers to the blob, or is
	// damaged.
	neededDamage = `(repository = '' AND EXISTS (SELECT 1 FROM manifest_children c
		WHERE c.child = damaged.digest AND c.kind = 0) OR ` + damagedManifest + `)`
)

// DamageBlob takes a blob out of service, makes all items pending that need it, and returns
// their number. The error is [ErrNotFound] if the blob is not in service.
func (tx *Tx) DamageBlob(d Damage) (pending int64, err error) {
	if err := tx.one("take blob "+d.Digest+" out of service", `DELETE FROM blobs WHERE digest = $1`,
		d.Digest); err != nil {
		return 0, err
	}
	d.Repository = ""
	return tx.putDamage(d)
}

// DamageManifest is [Tx.DamageBlob] for a manifest.
func (tx *Tx) DamageManifest(d Damage) (pending int64, err error) {
	tx.Changed(RepositoryTopic, d.Repository)
	err = tx.one("take manifest "+d.Repository+"@"+d.Digest+" out of service",
		`UPDATE manifests SET damaged = 1 WHERE repository = $1 AND digest = $2 AND damaged = 0`, d.Repository,
		d.Digest)
	if err != nil {
		return 0, err
	}
	return tx.putDamage(d)
}

func (tx *Tx) putDamage(d Damage) (pending int64, err error) {
	tx.Changed(DamageTopic, "")
	err = tx.do("note damage of "+d.Digest, `INSERT INTO damaged (`+damageColumns+`) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (repository, digest) DO UPDATE SET reason = excluded.reason, found_at = excluded.found_at`,
		d.Repository, d.Digest, d.Size, d.Reason, millis(d.FoundAt))
	if err != nil {
		return 0, err
	}
	needing, err := tx.ManifestsNeeding(d)
	for _, m := range needing {
		// The new time tells a running Sync that the row changed after it was read.
		n, err := tx.exec(`UPDATE sync_items SET state = 'pending', changed_at = changed_at + 1
			WHERE repository = $1 AND digest = $2 AND state <> 'held'`, m.Repository, m.Digest)
		if err != nil {
			return 0, wrap(err, "fetch "+m.Repository+"@"+m.Digest+" again")
		}
		pending += n
	}
	return pending, err
}

// A ManifestRef names a manifest of a repository.
type ManifestRef struct{ Repository, Digest string }

func (p *ManifestRef) fields() []any { return []any{&p.Repository, &p.Digest} }

// ManifestsNeeding returns the manifests that are incomplete because of d: those that refer to
// the blob, indexes that hold one of them, and the subjects of all of these.
func (tx *Tx) ManifestsNeeding(d Damage) (all []ManifestRef, err error) {
	queue := []ManifestRef{{d.Repository, d.Digest}}
	if d.Repository == "" {
		queue, err = list[ManifestRef](tx, "list manifests with blob "+d.Digest,
			`SELECT repository, parent FROM manifest_children WHERE child = $1 AND kind = 0
			ORDER BY repository, parent`, d.Digest)
	}
	seen := map[ManifestRef]bool{}
	for ; len(queue) > 0 && err == nil; queue = queue[1:] {
		m := queue[0]
		if seen[m] {
			continue
		}
		seen[m] = true
		all = append(all, m)
		var above []ManifestRef
		above, err = list[ManifestRef](tx, "list manifests above "+m.Digest,
			`SELECT repository, parent FROM manifest_children WHERE repository = $1 AND child = $2 AND kind = 1
			UNION SELECT repository, subject FROM manifests WHERE repository = $1 AND digest = $2 AND subject <> ''`,
			m.Repository, m.Digest)
		queue = append(queue, above...)
	}
	return all, err
}

// forgetDamage records that a manifest, or if repository is "" a blob, is whole again.
func (tx *Tx) forgetDamage(repository, digest string) error {
	return tx.do("forget damage of "+digest, `DELETE FROM damaged WHERE repository = $1 AND digest = $2`, repository,
		digest)
}

// ForgetDamages deletes the damage of content that no repository has any more.
func (tx *Tx) ForgetDamages() error {
	return tx.do("forget damages", `DELETE FROM damaged WHERE NOT `+keptDamage)
}

// DamageOf returns the damage of a manifest or, if repository is "", of a blob.
func (tx *Tx) DamageOf(repository, digest string) (Damage, error) {
	return get[Damage](tx, "read damage of "+digest,
		`SELECT `+damageColumns+` FROM damaged WHERE repository = $1 AND digest = $2`, repository, digest)
}

// LinkedDamage returns the damage of a blob that is linked to repository.
func (tx *Tx) LinkedDamage(repository, digest string) (Damage, error) {
	return get[Damage](tx, "read damage of "+digest, `SELECT '', d.digest, d.size, d.reason, d.found_at
		FROM damaged d JOIN repository_blobs l ON l.digest = d.digest
		WHERE d.repository = '' AND l.repository = $1 AND l.digest = $2`, repository, digest)
}

// Damages returns up to limit damages after (repository, digest), in that order. It omits
// content that no image needs.
func (tx *Tx) Damages(repository, digest string, limit int) ([]Damage, error) {
	return list[Damage](tx, "list damages", `SELECT `+damageColumns+` FROM damaged
		WHERE (repository, digest) > ($1, $2) AND `+neededDamage+`
		ORDER BY repository, digest LIMIT $3`, repository, digest, limit)
}

// AnyDamage reports whether anything is damaged, including content that no image needs.
func (tx *Tx) AnyDamage() (bool, error) {
	return get[bool](tx, "look for damage", `SELECT EXISTS (SELECT 1 FROM damaged)`)
}

// A Total is a number of things, and their bytes.
type Total struct{ Count, Bytes int64 }

func (t *Total) fields() []any { return []any{&t.Count, &t.Bytes} }

// A DamageTotal is the amount of damaged content, and when the latest damage was found.
type DamageTotal struct {
	Total
	Latest time.Time
}

func (t *DamageTotal) fields() []any { return append(t.Total.fields(), at(&t.Latest)) }

// TotalOfDamages returns the amount of damaged content that images need.
func (tx *Tx) TotalOfDamages() (DamageTotal, error) {
	return get[DamageTotal](tx, "count damages", `SELECT COUNT(*), COALESCE(SUM(size), 0), COALESCE(MAX(found_at), 0)
		FROM damaged WHERE `+neededDamage)
}
