package metadb

import "time"

// Parent is the source of what a connected registry's parent has. Other
// sources have names of their own.
const Parent = ""

// A SyncItem is a row of sync_items: something that a source has and this
// registry is to have, or to lose. Tag is empty for a manifest by digest.
type SyncItem struct {
	Source     string // where it comes from
	Repository string
	Item       string // the tag, or the digest where there is no tag
	Tag        string
	Digest     string // the source's; "" when it is to go
	Part       string // which part of an index the source has; "" is the whole
	State      string
	Error      string
	ChangedAt  time.Time
	SyncedAt   time.Time // zero is never
}

const syncItemColumns = `source, repository, item, tag, digest, part, state, error, changed_at, synced_at`

func (i *SyncItem) fields() []any {
	return []any{
		&i.Source, &i.Repository, &i.Item, &i.Tag, &i.Digest, &i.Part, &i.State, &i.Error, at(&i.ChangedAt), at(&i.SyncedAt),
	}
}

// SyncItem returns one item of source.
func (tx *Tx) SyncItem(source, repository, item string) (SyncItem, error) {
	i, err := get[SyncItem](tx, `SELECT `+syncItemColumns+` FROM sync_items WHERE source = $1 AND repository = $2 AND item = $3`, source, repository, item)
	return i, wrap(err, "read sync item %s %s", repository, item)
}

// PutSyncItem writes an item, new or known.
func (tx *Tx) PutSyncItem(i SyncItem) error {
	_, err := tx.exec(`INSERT INTO sync_items (`+syncItemColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (source, repository, item) DO UPDATE SET digest = excluded.digest, part = excluded.part, state = excluded.state,
		error = excluded.error, changed_at = excluded.changed_at, synced_at = excluded.synced_at`,
		i.Source, i.Repository, i.Item, i.Tag, i.Digest, i.Part, i.State, i.Error, millis(i.ChangedAt), millis(i.SyncedAt))
	return wrap(err, "write sync item %s %s", i.Repository, i.Item)
}

// A SyncItemKind is a condition on items.
type SyncItemKind string

// The kinds of item.
const (
	AnySyncItem     SyncItemKind = `1 = 1`
	OpenSyncItem    SyncItemKind = `state <> 'synced'`
	WantedSyncItem  SyncItemKind = `state <> 'synced' AND digest <> ''` // that is still to come
	LeavingSyncItem SyncItemKind = `state <> 'synced' AND digest = ''`  // that is still to go
	GoneSyncItem    SyncItemKind = `state = 'synced' AND digest = ''`   // that went
	FailedSyncItem  SyncItemKind = `state = 'failed'`                   // whose last try failed
)

// SyncItems returns up to limit items of source and of kind after (repository,
// item), in that order.
func (tx *Tx) SyncItems(source string, kind SyncItemKind, repository, item string, limit int) ([]SyncItem, error) {
	all, err := list[SyncItem](tx, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND `+string(kind)+` AND (repository > $2 OR (repository = $2 AND item > $3))
		ORDER BY repository, item LIMIT $4`, source, repository, item, limit)
	return all, wrap(err, "list sync items")
}

// SyncRepositories returns the repositories with an item of source and of
// kind, by name.
func (tx *Tx) SyncRepositories(source string, kind SyncItemKind) ([]string, error) {
	all, err := list[string](tx, `SELECT DISTINCT repository FROM sync_items WHERE source = $1 AND `+string(kind)+` ORDER BY repository`, source)
	return all, wrap(err, "list repositories of sync items")
}

// CountSyncItems returns how many items of source there are in each state, but
// for those that went.
func (tx *Tx) CountSyncItems(source string) (map[string]int, error) {
	return tx.countSyncItems(`SELECT state, COUNT(*) FROM sync_items WHERE source = $1 AND NOT (`+string(GoneSyncItem)+`) GROUP BY state`, source)
}

// WaitingSyncItems returns how many items of source are to come and are not
// synced, by repository.
func (tx *Tx) WaitingSyncItems(source string) (map[string]int, error) {
	return tx.countSyncItems(`SELECT repository, COUNT(*) FROM sync_items WHERE source = $1 AND `+string(WantedSyncItem)+` GROUP BY repository`, source)
}

// A group is a number of items that have something in common.
type group struct {
	name string
	n    int
}

func (g *group) fields() []any { return []any{&g.name, &g.n} }

func (tx *Tx) countSyncItems(query, source string) (map[string]int, error) {
	groups, err := list[group](tx, query, source)
	counts := map[string]int{}
	for _, g := range groups {
		counts[g.name] = g.n
	}
	return counts, wrap(err, "count sync items")
}

// WantsManifest reports whether an item of repository, of whatever source,
// leads to digest.
func (tx *Tx) WantsManifest(repository, digest string) (bool, error) {
	wants, err := get[bool](tx, `SELECT EXISTS (SELECT 1 FROM sync_items WHERE repository = $1 AND digest = $2)`, repository, digest)
	return wants, wrap(err, "read sync items of %s", repository)
}

// ListedSyncItems returns the items of source in repository whose names are
// above after and not above last, by name; "" as last is no bound.
func (tx *Tx) ListedSyncItems(source, repository, after, last string) ([]SyncItem, error) {
	all, err := list[SyncItem](tx, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND repository = $2 AND item > $3 AND ($4 = '' OR item <= $4) ORDER BY item`, source, repository, after, last)
	return all, wrap(err, "list sync items of %s", repository)
}

// NotePassed notes that the running pass over source has listed repository.
func (tx *Tx) NotePassed(source, repository string) error {
	_, err := tx.exec(`INSERT INTO sync_pass (source, repository) VALUES ($1, $2) ON CONFLICT (source, repository) DO NOTHING`, source, repository)
	return wrap(err, "note pass over %s", repository)
}

// ClearPass forgets which repositories a pass over source has listed.
func (tx *Tx) ClearPass(source string) error {
	_, err := tx.exec(`DELETE FROM sync_pass WHERE source = $1`, source)
	return wrap(err, "clear pass")
}

// NotPassed returns the repositories with an item of source that its running
// pass has not listed, by name.
func (tx *Tx) NotPassed(source string) ([]string, error) {
	all, err := list[string](tx, `SELECT DISTINCT repository FROM sync_items i WHERE source = $1 AND digest <> ''
		AND NOT EXISTS (SELECT 1 FROM sync_pass p WHERE p.source = i.source AND p.repository = i.repository) ORDER BY repository`, source)
	return all, wrap(err, "list repositories that were not listed")
}

// DropSyncItems marks every item of source in repository for removal.
func (tx *Tx) DropSyncItems(source, repository string, now time.Time) error {
	_, err := tx.exec(`UPDATE sync_items SET digest = '', state = 'pending', error = '', changed_at = $3
		WHERE source = $1 AND repository = $2 AND digest <> ''`, source, repository, millis(now))
	return wrap(err, "drop sync items of %s", repository)
}

// DeleteGoneSyncItems removes the items of source in repository that went.
func (tx *Tx) DeleteGoneSyncItems(source, repository string) error {
	_, err := tx.exec(`DELETE FROM sync_items WHERE source = $1 AND repository = $2 AND digest = '' AND state = 'synced'`, source, repository)
	return wrap(err, "delete sync items of %s", repository)
}

// ForgetSource removes every item of source. What they led to stays.
func (tx *Tx) ForgetSource(source string) error {
	if err := tx.ClearPass(source); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM sync_items WHERE source = $1`, source)
	return wrap(err, "delete sync items of %s", source)
}

// ForgetSources is [Tx.ForgetSource] for every source whose name begins with
// prefix.
func (tx *Tx) ForgetSources(prefix string) error {
	_, err := tx.exec(`DELETE FROM sync_items WHERE substr(source, 1, $2) = $1`, prefix, len(prefix))
	return wrap(err, "delete sync items of %s", prefix)
}
