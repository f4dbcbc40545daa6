package metadb

// An Upload is a row of uploads: a blob that a client is pushing. HashState is the sha256 state
// of the first Hashed bytes on disk.
type Upload struct {
	ID         string
	Repository string
	Hashed     int64 // bytes
	HashState  []byte
	UpdatedAt  Uptime // of the last write
}

func (u *Upload) fields() []any {
	return []any{&u.ID, &u.Repository, &u.Hashed, &u.HashState, &u.UpdatedAt}
}

const uploadColumns = `id, repository, hashed, hash_state, updated_at`

// Upload returns the upload id of repository.
func (tx *Tx) Upload(repository, id string) (Upload, error) {
	return get[Upload](tx, "read upload "+id,
		`SELECT `+uploadColumns+` FROM uploads WHERE id = $1 AND repository = $2`, id, repository)
}

// HasUpload reports whether the upload id exists, in any repository.
func (tx *Tx) HasUpload(id string) (bool, error) {
	return get[bool](tx, "read upload "+id, `SELECT EXISTS (SELECT 1 FROM uploads WHERE id = $1)`, id)
}

// PutUpload writes an upload.
func (tx *Tx) PutUpload(u Upload) error {
	return tx.do("write upload "+u.ID, `INSERT INTO uploads (`+uploadColumns+`) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET hashed = excluded.hashed, hash_state = excluded.hash_state,
		updated_at = excluded.updated_at`,
		u.ID, u.Repository, u.Hashed, u.HashState, u.UpdatedAt)
}

// DeleteUpload deletes the row of an upload.
func (tx *Tx) DeleteUpload(id string) error {
	return tx.one("delete upload "+id, `DELETE FROM uploads WHERE id = $1`, id)
}

// StaleUploads returns up to limit uploads after the id after, in order, that were not written
// to since before.
func (tx *Tx) StaleUploads(before Uptime, after string, limit int) ([]Upload, error) {
	return list[Upload](tx, "list stale uploads",
		`SELECT `+uploadColumns+` FROM uploads WHERE updated_at < $1 AND id > $2 ORDER BY id LIMIT $3`, before, after,
		limit)
}
