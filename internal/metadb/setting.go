package metadb

// Setting returns what the instance remembers under name; "" is nothing.
func (tx *Tx) Setting(name string) (string, error) {
	return get[string](tx, "read setting "+name,
		`SELECT COALESCE((SELECT value FROM settings WHERE name = $1), '')`, name)
}

// SetSetting lets the instance remember value under name.
func (tx *Tx) SetSetting(name, value string) error {
	return tx.do("write setting "+name, `INSERT INTO settings (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
}

// DeleteSettings removes settings, those of them that are there.
func (tx *Tx) DeleteSettings(names ...string) error {
	for _, name := range names {
		if err := tx.do("delete setting "+name, `DELETE FROM settings WHERE name = $1`, name); err != nil {
			return err
		}
	}
	return nil
}
