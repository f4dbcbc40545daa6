package metadb

import "strings"

// A ControlRow names a row of the control plane.
type ControlRow struct {
	Table ControlTable
	Name  string // of a connected registry, in lower case
}

// A ControlTable is a table of the control plane.
type ControlTable string

// The tables of the control plane, whose rows a process keeps in memory.
const (
	ConnectedRegistryRow ControlTable = "connected_registries"
	TokenRow             ControlTable = "tokens"
	ScopeMapRow          ControlTable = "scope_maps"
	OperatorRow          ControlTable = "operators"
)

// wrote records that a row of the control plane was written or deleted.
func (tx *Tx) wrote(table ControlTable, name string) {
	if table == ConnectedRegistryRow {
		name = strings.ToLower(name)
	}
	tx.controlRows = append(tx.controlRows, ControlRow{table, name})
	tx.Changed(controlTopic, string(table)+"/"+name)
}

// ControlRows returns the rows of the control plane that the transaction wrote or deleted.
// Reports of connected registries do not count.
func (tx *Tx) ControlRows() []ControlRow { return tx.controlRows }

// controlVersion is the counter of the control plane's version.
const controlVersion = "control"

// AdvanceControl increments the version of the control plane, and returns it.
func (tx *Tx) AdvanceControl() (int64, error) { return tx.Next(controlVersion) }

// ControlVersion returns the version of the control plane; 0 before the first write.
func (tx *Tx) ControlVersion() (int64, error) {
	return get[int64](tx, "read version of the control plane",
		`SELECT COALESCE((SELECT value FROM counters WHERE name = $1), 0)`, controlVersion)
}
