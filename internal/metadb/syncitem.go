package metadb

import (
	"time"
)

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

func scanSyncItem(row scanner) (i SyncItem, err error) {
	var changed, synced int64
	err = row.Scan(&i.Source, &i.Repository, &i.Item, &i.Tag, &i.Digest, &i.Part, &i.State, &i.Error, &changed, &synced)
	i.ChangedAt, i.SyncedAt = fromMillis(changed), fromMillis(synced)
	return i, err
}

// SyncItem returns one item of source.
func (tx *Tx) SyncItem(source, repository, item string) (SyncItem, error) {
	i, err := scanSyncItem(tx.row(`SELECT `+syncItemColumns+` FROM sync_items WHERE source = $1 AND repository = $2 AND item = $3`, source, repository, item))
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

// SyncItems returns up to limit items of source after (repository, item), in
// that order.
func (tx *Tx) SyncItems(source, repository, item string, limit int) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND (repository > $2 OR (repository = $2 AND item > $3)) ORDER BY repository, item LIMIT $4`,
		source, repository, item, limit)
	return all, wrap(err, "list sync items")
}

// OpenSyncItems is [Tx.SyncItems] for those that are not synced.
func (tx *Tx) OpenSyncItems(source, repository, item string, limit int) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND state <> 'synced' AND (repository > $2 OR (repository = $2 AND item > $3))
		ORDER BY repository, item LIMIT $4`, source, repository, item, limit)
	return all, wrap(err, "list open sync items")
}

// FailedSyncItems returns the first items of source whose last try failed.
func (tx *Tx) FailedSyncItems(source string, limit int) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND state = 'failed' ORDER BY repository, item LIMIT $2`, source, limit)
	return all, wrap(err, "list failed sync items")
}

// CountSyncItems returns how many items of source there are in each state, but
// for those that went.
func (tx *Tx) CountSyncItems(source string) (map[string]int, error) {
	type count struct {
		state string
		n     int
	}
	rows, err := list(tx, func(row scanner) (c count, err error) {
		err = row.Scan(&c.state, &c.n)
		return c, err
	}, `SELECT state, COUNT(*) FROM sync_items WHERE source = $1 AND NOT (`+string(GoneSyncItem)+`) GROUP BY state`, source)
	counts := map[string]int{}
	for _, c := range rows {
		counts[c.state] = c.n
	}
	return counts, wrap(err, "count sync items")
}

// WantsManifest reports whether an item of repository, of whatever source,
// leads to digest.
func (tx *Tx) WantsManifest(repository, digest string) (bool, error) {
	var n int
	err := tx.row(`SELECT COUNT(*) FROM sync_items WHERE repository = $1 AND digest = $2`, repository, digest).Scan(&n)
	return n > 0, wrap(err, "read sync items of %s", repository)
}

// ListedSyncItems returns the items of source in repository whose names are
// above after and not above last, by name; "" as last is no bound.
func (tx *Tx) ListedSyncItems(source, repository, after, last string) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
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
	scan := func(row scanner) (name string, err error) { return name, row.Scan(&name) }
	all, err := list(tx, scan, `SELECT DISTINCT repository FROM sync_items i WHERE source = $1 AND digest <> ''
		AND NOT EXISTS (SELECT 1 FROM sync_pass p WHERE p.source = i.source AND p.repository = i.repository) ORDER BY repository`, source)
	return all, wrap(err, "list repositories that were not listed")
}

// DropSyncItems marks every item of source in repository for removal.
func (tx *Tx) DropSyncItems(source, repository string, now time.Time) error {
	_, err := tx.exec(`UPDATE sync_items SET digest = '', state = 'pending', error = '', changed_at = $3
		WHERE source = $1 AND repository = $2 AND digest <> ''`, source, repository, millis(now))
	return wrap(err, "drop sync items of %s", repository)
}

// GoneSyncItems is [Tx.SyncItems] for those that are to go and still have to.
func (tx *Tx) GoneSyncItems(source, repository, item string, limit int) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE source = $1 AND digest = '' AND state <> 'synced' AND (repository > $2 OR (repository = $2 AND item > $3))
		ORDER BY repository, item LIMIT $4`, source, repository, item, limit)
	return all, wrap(err, "list sync items that are to go")
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

// WaitingSyncItems returns how many items of source are to come and are not
// synced, by repository.
func (tx *Tx) WaitingSyncItems(source string) (map[string]int, error) {
	waiting := map[string]int{}
	_, err := list(tx, func(row scanner) (name string, err error) {
		var n int
		err = row.Scan(&name, &n)
		waiting[name] = n
		return name, err
	}, `SELECT repository, COUNT(*) FROM sync_items WHERE source = $1 AND `+string(WantedSyncItem)+` GROUP BY repository`, source)
	return waiting, wrap(err, "count sync items")
}

// A SyncItemKind is a condition on items.
type SyncItemKind string

// The kinds of item that [Tx.SyncRepositories] looks for.
const (
	AnySyncItem    SyncItemKind = `1 = 1`
	WantedSyncItem SyncItemKind = `state <> 'synced' AND digest <> ''` // that is still to come
	GoneSyncItem   SyncItemKind = `state = 'synced' AND digest = ''`   // that went
)

// SyncRepositories returns the repositories with an item of source and of
// kind, by name.
func (tx *Tx) SyncRepositories(source string, kind SyncItemKind) ([]string, error) {
	scan := func(row scanner) (name string, err error) { return name, row.Scan(&name) }
	all, err := list(tx, scan, `SELECT DISTINCT repository FROM sync_items WHERE source = $1 AND `+string(kind)+` ORDER BY repository`, source)
	return all, wrap(err, "list repositories of sync items")
}
