package metadb

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// A ScopeMap is a row of scope_maps.
type ScopeMap struct {
	Name        string
	Description string
	Type        string // UserDefined or SystemDefined
	Actions     []string
	CreatedAt   time.Time
	Version     int64 // counts edits, beginning at 1
	Seq         int64 // in the feed, of the last change of its actions on repositories
	// AnonymousNetworks may pull without credentials, such as 10.0.0.0/8.
	AnonymousNetworks []string
}

const scopeMapColumns = `name, description, type, actions, created_at, version, seq, anonymous_networks`

func (m *ScopeMap) fields() []any {
	return []any{&m.Name, &m.Description, &m.Type, parsed{&m.Actions}, at(&m.CreatedAt), &m.Version, &m.Seq,
		parsed{&m.AnonymousNetworks}}
}

// ScopeMap returns the scope map name.
func (tx *Tx) ScopeMap(name string) (ScopeMap, error) {
	return get[ScopeMap](tx, "read scope map "+name,
		`SELECT `+scopeMapColumns+` FROM scope_maps WHERE name = $1`, name)
}

// ScopeMaps returns every scope map, by name.
func (tx *Tx) ScopeMaps() ([]ScopeMap, error) {
	return list[ScopeMap](tx, "list scope maps", `SELECT `+scopeMapColumns+` FROM scope_maps ORDER BY name`)
}

// CountScopeMaps returns the number of scope maps.
func (tx *Tx) CountScopeMaps() (int, error) {
	return get[int](tx, "count scope maps", `SELECT COUNT(*) FROM scope_maps`)
}

// PutScopeMap writes a scope map. A row of the same name keeps its creation time, and its
// version is incremented. If its actions on repositories change, it takes the next sequence
// number of the feed. The version and the number of m are ignored.
func (tx *Tx) PutScopeMap(m ScopeMap) error {
	tx.wrote(ScopeMapRow, m.Name)
	if m.Actions == nil {
		m.Actions = []string{}
	}
	old, err := tx.ScopeMap(m.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if m.Seq = old.Seq; err != nil || !slices.Equal(onRepositories(old.Actions), onRepositories(m.Actions)) {
		if m.Seq, err = tx.SkipFeed(); err != nil {
			return err
		}
	}
	actions, err := json.Marshal(m.Actions)
	if err != nil {
		return err
	}
	networks, err := json.Marshal(append([]string{}, m.AnonymousNetworks...)) // none is [], not null
	if err != nil {
		return err
	}
	return tx.do("write scope map "+m.Name,
		`INSERT INTO scope_maps (`+scopeMapColumns+`) VALUES ($1, $2, $3, $4, $5, 1, $6, $7)
		ON CONFLICT (name) DO UPDATE SET description = excluded.description, type = excluded.type,
		actions = excluded.actions, version = scope_maps.version + 1, seq = excluded.seq,
		anonymous_networks = excluded.anonymous_networks`,
		m.Name, m.Description, m.Type, string(actions), millis(m.CreatedAt), m.Seq, string(networks))
}

// onRepositories returns those of actions that decide which content may be read.
func onRepositories(actions []string) (some []string) {
	for _, a := range actions {
		if strings.HasPrefix(a, "repositories/") {
			some = append(some, a)
		}
	}
	return some
}

// DeleteScopeMap deletes a scope map. The caller is responsible for the tokens that have it.
func (tx *Tx) DeleteScopeMap(name string) error {
	tx.wrote(ScopeMapRow, name)
	return tx.one("delete scope map "+name, `DELETE FROM scope_maps WHERE name = $1`, name)
}
