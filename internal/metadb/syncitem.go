package metadb

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Parent is the source of items that come from the parent. Mirror rules and imports have named
// sources, such as mirror/x.
const Parent = ""

// A SyncItem is a row of sync_items: a tag or an untagged manifest of a source that must be
// here, or must be removed. Tag is empty for an untagged manifest.
type SyncItem struct {
	Source     string // that the item comes from
	Repository string
	Item       string // the tag, or the digest of an untagged manifest
	Tag        string
	Digest     string // the source's; "" if the item must be removed
	Part       string // which part of an index the source has; "" is the whole
	State      string
	Error      string
	Permanent  bool // it failed, and will fail until the source changes
	ChangedAt  time.Time
	SyncedAt   time.Time // zero is never
}

const syncItemColumns = `source, repository, item, tag, digest, part, state, error, permanent, changed_at, synced_at`

func (i *SyncItem) fields() []any {
	return []any{
		&i.Source, &i.Repository, &i.Item, &i.Tag, &i.Digest, &i.Part, &i.State, &i.Error, &i.Permanent,
		at(&i.ChangedAt), at(&i.SyncedAt),
	}
}

// SyncItem returns one item of source.
func (tx *Tx) SyncItem(source, repository, item string) (SyncItem, error) {
	return get[SyncItem](tx, "read sync item "+repository+" "+item,
		`SELECT `+syncItemColumns+` FROM sync_items WHERE source = $1 AND repository = $2 AND item = $3`, source,
		repository, item)
}

// PutSyncItem writes an item.
func (tx *Tx) PutSyncItem(i SyncItem) error {
	return tx.do("write sync item "+i.Repository+" "+i.Item,
		`INSERT INTO sync_items (`+syncItemColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8,
		CASE WHEN $9 THEN 1 ELSE 0 END, $10, $11)
		ON CONFLICT (source, repository, item) DO UPDATE SET digest = excluded.digest, part = excluded.part,
		state = excluded.state, error = excluded.error, permanent = excluded.permanent,
		changed_at = excluded.changed_at, synced_at = excluded.synced_at`,
		i.Source, i.Repository, i.Item, i.Tag, i.Digest, i.Part, i.State, i.Error, i.Permanent, millis(i.ChangedAt),
		millis(i.SyncedAt))
}

// A SyncItemKind is a condition on items.
type SyncItemKind string

const (
	AnySyncItem     SyncItemKind = `1 = 1`
	OutOfSyncItem   SyncItemKind = `state IN ('pending', 'failed')`
	WantedSyncItem  SyncItemKind = OutOfSyncItem + ` AND digest <> ''` // to be fetched
	AwaitedSyncItem SyncItemKind = WantedSyncItem +
		` AND NOT (state = 'failed' AND permanent = 1)` // not failed permanently: it may still come
	PermanentSyncItem SyncItemKind = `state = 'failed' AND permanent = 1`     // failed permanently
	LeavingSyncItem   SyncItemKind = OutOfSyncItem + ` AND digest = ''`       // to be deleted
	GoneSyncItem      SyncItemKind = `state = 'synced' AND digest = ''`       // deleted
	FailedSyncItem    SyncItemKind = `state = 'failed'`                       // the last try failed
	RemainingSyncItem SyncItemKind = `NOT (state = 'synced' AND digest = '')` // all but those that were deleted
	DifferingSyncItem SyncItemKind = `state <> 'synced'`                      // out of sync, or held
)

// SyncItems returns up to limit items of source and of kind after (repository, item), in that
// order.
func (tx *Tx) SyncItems(source string, kind SyncItemKind, repository, item string, limit int) ([]SyncItem, error) {
	return list[SyncItem](tx, "list sync items", `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND `+string(kind)+` AND (repository > $2 OR (repository = $2 AND item > $3))
		ORDER BY repository, item LIMIT $4`, source, repository, item, limit)
}

// HeldSyncItems returns up to limit items of the parent that clients changed here and that were not sent
// yet, sorted by repository and item. It reads only these: without an order in the query, the index of
// states serves it, and not that of all items.
func (tx *Tx) HeldSyncItems(limit int) ([]SyncItem, error) {
	all, err := list[SyncItem](tx, "list held items", `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND state = 'held' LIMIT $2`, Parent, limit)
	slices.SortFunc(all, func(a, b SyncItem) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Item, b.Item))
	})
	return all, err
}

// HasSyncItems reports whether repository has items of source and of kind. It reads only rows of
// that repository.
func (tx *Tx) HasSyncItems(source string, kind SyncItemKind, repository string) (bool, error) {
	return get[bool](tx, "read sync items of "+repository, `SELECT EXISTS (SELECT 1 FROM sync_items
		WHERE source = $1 AND repository = $2 AND `+string(kind)+`)`, source, repository)
}

// CountSyncItems returns the number of items of source by state, without those that were
// deleted.
func (tx *Tx) CountSyncItems(source string) (map[string]int, error) {
	return tx.countSyncItems(`SELECT state, COUNT(*) FROM sync_items WHERE source = $1
		AND `+string(RemainingSyncItem)+` GROUP BY state`, source)
}

// SyncItemFailedWith reports whether an item of source failed with an error that contains text.
// The text must not contain wildcards of LIKE.
func (tx *Tx) SyncItemFailedWith(source, text string) (bool, error) {
	return get[bool](tx, "read failed sync items", `SELECT EXISTS (SELECT 1 FROM sync_items WHERE source = $1
		AND `+string(FailedSyncItem)+` AND error LIKE '%' || $2 || '%')`, source, text)
}

// SyncRepositories returns the number of items of source and of kind for each repository that
// has any.
func (tx *Tx) SyncRepositories(source string, kind SyncItemKind) (map[string]int, error) {
	return tx.countSyncItems(`SELECT repository, COUNT(*) FROM sync_items WHERE source = $1
		AND `+string(kind)+` GROUP BY repository`, source)
}

// A group is a number of items with the same property.
type group struct {
	name string
	n    int
}

func (g *group) fields() []any { return []any{&g.name, &g.n} }

func (tx *Tx) countSyncItems(query, source string) (map[string]int, error) {
	groups, err := list[group](tx, "count sync items", query, source)
	counts := map[string]int{}
	for _, g := range groups {
		counts[g.name] = g.n
	}
	return counts, err
}

// HasSyncItemOf reports whether an item of repository, from any source, names digest, or whether
// digest was pushed here and not sent yet.
func (tx *Tx) HasSyncItemOf(repository, digest string) (bool, error) {
	return get[bool](tx, "read sync items of "+repository,
		`SELECT EXISTS (SELECT 1 FROM sync_items WHERE repository = $1 AND digest = $2)
		OR EXISTS (SELECT 1 FROM outbox WHERE repository = $1 AND item = $2)`, repository, digest)
}

// DeleteSyncItem deletes the row of an item of source.
func (tx *Tx) DeleteSyncItem(source, repository, item string) error {
	return tx.do("delete sync item "+repository+" "+item,
		`DELETE FROM sync_items WHERE source = $1 AND repository = $2 AND item = $3`, source, repository, item)
}

// HasSyncedItem reports whether an item of source in repository that is in sync names digest with
// this part.
func (tx *Tx) HasSyncedItem(source, repository string, digest digest.Digest, part string) (bool, error) {
	return get[bool](tx, "read sync items of "+repository, `SELECT EXISTS (SELECT 1 FROM sync_items
		WHERE source = $1 AND repository = $2 AND digest = $3 AND part = $4 AND state = 'synced')`,
		source, repository, string(digest), part)
}

// HasSyncItem reports whether any source has the item of this name, with this digest, in repository.
func (tx *Tx) HasSyncItem(repository, item, digest string) (bool, error) {
	return get[bool](tx, "read sync items of "+repository,
		`SELECT EXISTS (SELECT 1 FROM sync_items WHERE repository = $1 AND digest = $3 AND item = $2)`,
		repository, item, digest)
}

// SyncItemsInRange returns the items of source in repository whose names are above after and not
// above last, by name. If last is "", there is no upper bound.
func (tx *Tx) SyncItemsInRange(source, repository, after, last string) ([]SyncItem, error) {
	return list[SyncItem](tx, "list sync items of "+repository, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND repository = $2 AND item > $3 AND ($4 = '' OR item <= $4) ORDER BY item`,
		source, repository, after, last)
}

// MarkListed records that the running pass over source has listed repository.
func (tx *Tx) MarkListed(source, repository string) error {
	return tx.do("record that the pass listed "+repository,
		`INSERT INTO sync_pass (source, repository) VALUES ($1, $2) ON CONFLICT (source, repository) DO NOTHING`,
		source, repository)
}

// ClearPass deletes the records of the pass over source.
func (tx *Tx) ClearPass(source string) error {
	return tx.do("clear pass", `DELETE FROM sync_pass WHERE source = $1`, source)
}

// UnlistedRepositories returns the repositories with an item of source that the running pass
// has not listed, by name.
func (tx *Tx) UnlistedRepositories(source string) ([]string, error) {
	return list[string](tx, "list repositories that were not listed",
		`SELECT DISTINCT repository FROM sync_items i WHERE source = $1 AND digest <> ''
		AND NOT EXISTS (SELECT 1 FROM sync_pass p WHERE p.source = i.source AND p.repository = i.repository)
		ORDER BY repository`, source)
}

// MarkForRemoval marks every item of source in repository for removal, except those that the parent
// accepted from this registry after the sequence number seq. An item that was changed here, and not
// sent yet, stays as it is.
func (tx *Tx) MarkForRemoval(source, repository string, seq int64, now time.Time) error {
	return tx.do("mark sync items for removal in "+repository,
		`UPDATE sync_items SET digest = '', state = CASE WHEN state = 'held' THEN 'held' ELSE 'pending' END,
		error = '', permanent = 0, changed_at = $4
		WHERE source = $1 AND repository = $2 AND digest <> '' AND NOT (source = '' AND EXISTS (SELECT 1 FROM outbox o
		WHERE o.repository = sync_items.repository AND o.item = sync_items.item AND o.seq > $3))`,
		source, repository, seq, millis(now))
}

// DeleteGoneSyncItems deletes the rows of items of source in repository that were removed.
func (tx *Tx) DeleteGoneSyncItems(source, repository string) error {
	return tx.do("delete sync items of "+repository,
		`DELETE FROM sync_items WHERE source = $1 AND repository = $2 AND digest = '' AND state = 'synced'`, source,
		repository)
}

// ForgetSource deletes every item of source. Their content stays.
func (tx *Tx) ForgetSource(source string) error {
	if err := tx.ClearPass(source); err != nil {
		return err
	}
	return tx.do("delete sync items of "+source, `DELETE FROM sync_items WHERE source = $1`, source)
}

// ForgetSources is [Tx.ForgetSource] for every source whose name begins with prefix.
func (tx *Tx) ForgetSources(prefix string) error {
	return tx.do("delete sync items of "+prefix,
		`DELETE FROM sync_items WHERE substr(source, 1, $2) = $1`, prefix, len(prefix))
}
