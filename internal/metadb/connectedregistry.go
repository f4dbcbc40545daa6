package metadb

import (
	"encoding/json"
	"strings"
	"time"
)

// A ConnectedRegistry is a row of connected_registries. Its name is unique regardless of case,
// and queries ignore the case.
type ConnectedRegistry struct {
	Name       string
	Parent     string // "" if it is the topmost instance
	SyncToken  string
	Spec       json.RawMessage // settings that the root decided
	Status     json.RawMessage // last report of the running instance
	InstanceID string          // id of the activated instance; "" is none
	CreatedAt  time.Time
	Version    int64 // counts edits of the spec, beginning at 1
}

const connectedRegistryColumns = `name, parent, sync_token, spec, status, instance_id, created_at, version`

func (r *ConnectedRegistry) fields() []any {
	return []any{
		&r.Name, &r.Parent, &r.SyncToken, (*[]byte)(&r.Spec), (*[]byte)(&r.Status), &r.InstanceID, at(&r.CreatedAt),
		&r.Version,
	}
}

// ConnectedRegistry returns the connected registry name.
func (tx *Tx) ConnectedRegistry(name string) (ConnectedRegistry, error) {
	return get[ConnectedRegistry](tx, "read connected registry "+name,
		`SELECT `+connectedRegistryColumns+` FROM connected_registries
		WHERE LOWER(name) = $1`, strings.ToLower(name))
}

// ConnectedRegistries returns every connected registry, by name.
func (tx *Tx) ConnectedRegistries() ([]ConnectedRegistry, error) {
	return list[ConnectedRegistry](tx, "list connected registries",
		`SELECT `+connectedRegistryColumns+` FROM connected_registries ORDER BY name`)
}

// PutConnectedRegistry writes the settings of a connected registry: its parent, sync token and
// spec. A row of the same name keeps its creation time, status and instance, and its version is
// incremented. The status of a new row is {}.
func (tx *Tx) PutConnectedRegistry(r ConnectedRegistry) error {
	tx.wrote(ConnectedRegistryRow, r.Name)
	return tx.do("write connected registry "+r.Name,
		`INSERT INTO connected_registries (name, parent, sync_token, spec, status, instance_id, created_at, version)
		VALUES ($1, $2, $3, $4, '{}', $5, $6, 1)
		ON CONFLICT (name) DO UPDATE SET parent = excluded.parent, sync_token = excluded.sync_token,
		spec = excluded.spec, version = connected_registries.version + 1`,
		r.Name, r.Parent, r.SyncToken, string(r.Spec), r.InstanceID, millis(r.CreatedAt))
}

// SetConnectedRegistryStatus replaces the last report of a connected registry.
func (tx *Tx) SetConnectedRegistryStatus(name string, status json.RawMessage) error {
	tx.Changed(ReportTopic, strings.ToLower(name))
	return tx.one("write status of "+name,
		`UPDATE connected_registries SET status = $2 WHERE name = $1`, name, string(status))
}

// SetActivation replaces the id of the instance that is activated as a connected registry; ""
// is none.
func (tx *Tx) SetActivation(name, instance string) error {
	tx.wrote(ConnectedRegistryRow, name)
	return tx.one("write activation of "+name,
		`UPDATE connected_registries SET instance_id = $2 WHERE name = $1`, name, instance)
}

// DeleteConnectedRegistry deletes a connected registry.
func (tx *Tx) DeleteConnectedRegistry(name string) error {
	tx.wrote(ConnectedRegistryRow, name)
	return tx.one("delete connected registry "+name, `DELETE FROM connected_registries WHERE name = $1`, name)
}
