package metadb

// Setting returns the value of a setting of the instance; "" if it has none.
func (tx *Tx) Setting(name string) (string, error) {
	return get[string](tx, "read setting "+name,
		`SELECT COALESCE((SELECT value FROM settings WHERE name = $1), '')`, name)
}

// SetSetting sets a setting of the instance.
func (tx *Tx) SetSetting(name, value string) error {
	return tx.do("write setting "+name, `INSERT INTO settings (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
}

// DeleteSettings deletes those of the settings that exist.
func (tx *Tx) DeleteSettings(names ...string) error {
	for _, name := range names {
		if err := tx.do("delete setting "+name, `DELETE FROM settings WHERE name = $1`, name); err != nil {
			return err
		}
	}
	return nil
}
