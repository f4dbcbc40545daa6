package metadb

import "time"

// A SyncItem is a row of sync_items: something that the parent has and this
// registry is to have, or to lose. Tag is empty for a manifest by digest.
type SyncItem struct {
	Repository string
	Item       string // the tag, or the digest where there is no tag
	Tag        string
	Digest     string // the parent's; "" when it is to go
	State      string
	Error      string
	ChangedAt  time.Time
	SyncedAt   time.Time // zero is never
	Seen       int64     // the last snapshot that had it
}

const syncItemColumns = `repository, item, tag, digest, state, error, changed_at, synced_at, seen`

func scanSyncItem(row scanner) (i SyncItem, err error) {
	var changed, synced int64
	err = row.Scan(&i.Repository, &i.Item, &i.Tag, &i.Digest, &i.State, &i.Error, &changed, &synced, &i.Seen)
	i.ChangedAt, i.SyncedAt = fromMillis(changed), fromMillis(synced)
	return i, err
}

// SyncItem returns one item.
func (tx *Tx) SyncItem(repository, item string) (SyncItem, error) {
	i, err := scanSyncItem(tx.row(`SELECT `+syncItemColumns+` FROM sync_items WHERE repository = $1 AND item = $2`, repository, item))
	return i, wrap(err, "read sync item %s %s", repository, item)
}

// PutSyncItem writes an item, new or known.
func (tx *Tx) PutSyncItem(i SyncItem) error {
	_, err := tx.exec(`INSERT INTO sync_items (`+syncItemColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (repository, item) DO UPDATE SET digest = excluded.digest, state = excluded.state,
		error = excluded.error, changed_at = excluded.changed_at, synced_at = excluded.synced_at, seen = excluded.seen`,
		i.Repository, i.Item, i.Tag, i.Digest, i.State, i.Error, millis(i.ChangedAt), millis(i.SyncedAt), i.Seen)
	return wrap(err, "write sync item %s %s", i.Repository, i.Item)
}

// DeleteSyncItem removes an item, if it is there.
func (tx *Tx) DeleteSyncItem(repository, item string) error {
	_, err := tx.exec(`DELETE FROM sync_items WHERE repository = $1 AND item = $2`, repository, item)
	return wrap(err, "delete sync item %s %s", repository, item)
}

// SyncItems returns up to limit items after (repository, item), in that order.
func (tx *Tx) SyncItems(repository, item string, limit int) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE repository > $1 OR (repository = $1 AND item > $2) ORDER BY repository, item LIMIT $3`, repository, item, limit)
	return all, wrap(err, "list sync items")
}

// OpenSyncItems is [Tx.SyncItems] for those that are not synced.
func (tx *Tx) OpenSyncItems(repository, item string, limit int) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE state <> 'synced' AND (repository > $1 OR (repository = $1 AND item > $2)) ORDER BY repository, item LIMIT $3`,
		repository, item, limit)
	return all, wrap(err, "list open sync items")
}

// CountSyncItems returns how many items there are in each state.
func (tx *Tx) CountSyncItems() (map[string]int, error) {
	type count struct {
		state string
		n     int
	}
	rows, err := list(tx, func(row scanner) (c count, err error) {
		err = row.Scan(&c.state, &c.n)
		return c, err
	}, `SELECT state, COUNT(*) FROM sync_items GROUP BY state`)
	counts := map[string]int{}
	for _, c := range rows {
		counts[c.state] = c.n
	}
	return counts, wrap(err, "count sync items")
}

// WantsManifest reports whether an item of repository leads to digest.
func (tx *Tx) WantsManifest(repository, digest string) (bool, error) {
	var n int
	err := tx.row(`SELECT COUNT(*) FROM sync_items WHERE repository = $1 AND digest = $2`, repository, digest).Scan(&n)
	return n > 0, wrap(err, "read sync items of %s", repository)
}

// DropUnseen marks every item that the snapshot did not have as one to go.
func (tx *Tx) DropUnseen(snapshot int64, now time.Time) error {
	_, err := tx.exec(`UPDATE sync_items SET digest = '', state = 'pending', error = '', changed_at = $2
		WHERE seen < $1 AND digest <> ''`, snapshot, millis(now))
	return wrap(err, "drop sync items")
}

// DropSyncItems marks every item of repository as one to go.
func (tx *Tx) DropSyncItems(repository string, now time.Time) error {
	_, err := tx.exec(`UPDATE sync_items SET digest = '', state = 'pending', error = '', changed_at = $2
		WHERE repository = $1 AND digest <> ''`, repository, millis(now))
	return wrap(err, "drop sync items of %s", repository)
}

// GoneSyncItems returns up to limit items after (repository, item), in that
// order, that are to go and still have to.
func (tx *Tx) GoneSyncItems(repository, item string, limit int) ([]SyncItem, error) {
	all, err := list(tx, scanSyncItem, `SELECT `+syncItemColumns+` FROM sync_items
		WHERE digest = '' AND state <> 'synced' AND (repository > $1 OR (repository = $1 AND item > $2))
		ORDER BY repository, item LIMIT $3`, repository, item, limit)
	return all, wrap(err, "list sync items that are to go")
}

// DeleteGoneSyncItems removes the items of repository that went.
func (tx *Tx) DeleteGoneSyncItems(repository string) error {
	_, err := tx.exec(`DELETE FROM sync_items WHERE repository = $1 AND digest = '' AND state = 'synced'`, repository)
	return wrap(err, "delete sync items of %s", repository)
}

// CountWanted returns how many items are to come and are not synced.
func (tx *Tx) CountWanted() (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM sync_items WHERE state <> 'synced' AND digest <> ''`).Scan(&n)
	return n, wrap(err, "count sync items")
}

// A SyncItemKind is a condition on items.
type SyncItemKind string

// The kinds of item that [Tx.SyncRepositories] looks for.
const (
	AnySyncItem    SyncItemKind = `1 = 1`
	WantedSyncItem SyncItemKind = `state <> 'synced' AND digest <> ''` // that is still to come
	GoneSyncItem   SyncItemKind = `state = 'synced' AND digest = ''`   // that went
)

// SyncRepositories returns the repositories with an item of kind, by name.
func (tx *Tx) SyncRepositories(kind SyncItemKind) ([]string, error) {
	scan := func(row scanner) (name string, err error) { return name, row.Scan(&name) }
	all, err := list(tx, scan, `SELECT DISTINCT repository FROM sync_items WHERE `+string(kind)+` ORDER BY repository`)
	return all, wrap(err, "list repositories of sync items")
}
