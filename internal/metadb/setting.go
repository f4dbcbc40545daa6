package metadb

// Setting returns what the instance remembers under name; "" is nothing.
func (tx *Tx) Setting(name string) (string, error) {
	value, err := get[string](tx, `SELECT COALESCE((SELECT value FROM settings WHERE name = $1), '')`, name)
	return value, wrap(err, "read setting %s", name)
}

// SetSetting lets the instance remember value under name.
func (tx *Tx) SetSetting(name, value string) error {
	_, err := tx.exec(`INSERT INTO settings (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return wrap(err, "write setting %s", name)
}

// DeleteSettings removes settings, those of them that are there.
func (tx *Tx) DeleteSettings(names ...string) error {
	for _, name := range names {
		if _, err := tx.exec(`DELETE FROM settings WHERE name = $1`, name); err != nil {
			return wrap(err, "delete setting %s", name)
		}
	}
	return nil
}
