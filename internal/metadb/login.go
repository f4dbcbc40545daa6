package metadb

import "time"

// UseLogin records that a login ends which began with a state, and reports whether it is the first to do
// so. Nobody accepts the login after its end, so the row is deleted by a later call.
func (tx *Tx) UseLogin(state string, now, end time.Time) (first bool, err error) {
	if err := tx.do("delete ended logins", `DELETE FROM used_logins WHERE ends_at < $1`, now.Unix()); err != nil {
		return false, err
	}
	n, err := tx.exec(`INSERT INTO used_logins (state, ends_at) VALUES ($1, $2) ON CONFLICT (state) DO NOTHING`,
		state, end.Unix())
	return n > 0, wrap(err, "use login")
}
