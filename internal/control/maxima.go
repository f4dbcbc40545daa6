package control

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Maxima are how many resources there can be in a root.
type Maxima struct {
	ConnectedRegistries int
	Levels              int // of connected registries
	ClientTokens        int // of a connected registry
	Notifications       int // of a connected registry
	ScopeMaps, Tokens   int
	Permissions         int // of a scope map: actions on repositories
	GatewayPermissions  int // of a scope map: actions on gateways, which are four for each descendant
}

// MaxDepth is the largest number of levels of connected registries that a root can be set to. Every
// connected registry knows it.
const MaxDepth = 16

// DefaultMaxima returns the defaults.
func DefaultMaxima() Maxima {
	return Maxima{
		ConnectedRegistries: 10_000, Levels: MaxDepth, ClientTokens: 1000, Notifications: 100,
		ScopeMaps: 20_000, Tokens: 20_000, Permissions: 500, GatewayPermissions: 4000,
	}
}

// A maximum is one of the maxima, by its name in the setting.
type maximum struct {
	name   string
	value  *int
	atMost int
}

func (m *Maxima) all() []maximum {
	return []maximum{
		{"connected-registries", &m.ConnectedRegistries, 100_000},
		{"levels", &m.Levels, MaxDepth},
		{"client-tokens", &m.ClientTokens, 10_000},
		{"notifications", &m.Notifications, 1000},
		{"scope-maps", &m.ScopeMaps, 1_000_000},
		{"tokens", &m.Tokens, 1_000_000},
		{"permissions", &m.Permissions, 10_000},
		{"gateway-permissions", &m.GatewayPermissions, 400_000},
	}
}

// ParseMaxima parses a list such as "tokens=50000,levels=3". Whatever it does not name has its default.
func ParseMaxima(text string) (Maxima, error) {
	m := DefaultMaxima()
	all := m.all()
	seen := map[string]bool{}
	for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, number, _ := strings.Cut(entry, "=")
		i := slices.IndexFunc(all, func(a maximum) bool { return a.name == name })
		if i < 0 {
			var names []string
			for _, a := range all {
				names = append(names, a.name)
			}
			return Maxima{}, fmt.Errorf("limits %.80q: want NAME=NUMBER with one of %s", entry,
				strings.Join(names, ", "))
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > all[i].atMost {
			return Maxima{}, fmt.Errorf("limits %.80q: want %s=1 to %s=%d", entry, name, name, all[i].atMost)
		}
		if seen[name] {
			return Maxima{}, fmt.Errorf("limits: %s is given twice", name)
		}
		seen[name], *all[i].value = true, n
	}
	return m, nil
}
