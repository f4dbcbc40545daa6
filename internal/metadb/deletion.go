package metadb

// PutDeletion records that the file of a blob is deleted from now on.
func (tx *Tx) PutDeletion(digest string, now Uptime) error {
	return tx.do("write deletion of "+digest, `INSERT INTO deletions (digest, since) VALUES ($1, $2)
		ON CONFLICT (digest) DO UPDATE SET since = excluded.since`, digest, now)
}

// Deletions returns those of the blobs whose files are being deleted.
func (tx *Tx) Deletions(digests []string) ([]string, error) {
	return tx.listIn("read deletions", `SELECT digest FROM deletions WHERE $1 = '' AND digest IN (%s)`, "", digests)
}

// EndDeletions records that the deletions of the files of blobs have ended.
func (tx *Tx) EndDeletions(digests ...string) error {
	for _, d := range digests {
		if err := tx.do("write deletion of "+d, `DELETE FROM deletions WHERE digest = $1`, d); err != nil {
			return err
		}
	}
	return nil
}

// EndDeletionsBefore is [Tx.EndDeletions] for deletions that began before a moment.
func (tx *Tx) EndDeletionsBefore(before Uptime) error {
	return tx.do("delete old deletions", `DELETE FROM deletions WHERE since < $1`, before)
}
