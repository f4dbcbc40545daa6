package control

import (
	"sync"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// The roles of an operator.
const (
	roleAdmin  = api.RoleAdmin  // may do everything within its limits
	roleReader = api.RoleReader // may read within its limits
)

// An Operator is an operator with its rights and its API keys.
type Operator struct {
	metadb.Operator
	Limits auth.Limits
	keys   []*metadb.APIKey
}

// newOperator returns the operator of a row, with those of the keys that are its own.
func newOperator(row metadb.Operator, keys []metadb.APIKey) *Operator {
	o := &Operator{Operator: row, Limits: limitsOf(row.Limits)}
	for _, k := range keys {
		if k.Operator == row.Name {
			o.keys = append(o.keys, &k)
		}
	}
	return o
}

// limitsOf returns the limits in a row. Limits that this program cannot read allow nothing.
func limitsOf(row metadb.OperatorLimits) auth.Limits {
	l, err := auth.ReadLimits(row.Repositories, row.Labels)
	if err != nil {
		return auth.Nothing()
	}
	return l
}

// principal returns the operator that logs in with its password.
func (o *Operator) principal() *auth.Principal {
	return &auth.Principal{
		Kind: auth.KindOperator, Name: o.Name, Generation: auth.Generation(o.PasswordHash),
		Admin: o.Role == roleAdmin, Permissions: permissionsOf(o.Role, o.Limits), Limits: o.Limits,
	}
}

// with returns the operator that logs in with an API key: it has the rights that both have.
func (o *Operator) with(k *metadb.APIKey) *auth.Principal {
	limits, role := o.Limits.And(limitsOf(k.Limits)), roleReader
	if o.Role == roleAdmin && k.Role == roleAdmin {
		role = roleAdmin
	}
	return &auth.Principal{
		Kind: auth.KindOperator, Name: o.Name, Generation: auth.Generation(k.Hash), Key: k.Name,
		Admin: role == roleAdmin, Permissions: permissionsOf(role, limits), Limits: limits,
	}
}

// permissionsOf returns the rights on repositories of a role within limits.
func permissionsOf(role string, l auth.Limits) auth.Permissions {
	if role == roleAdmin {
		return auth.Everything.Within(l)
	}
	return auth.ReadEverything.Within(l)
}

// keyUse remembers when API keys were used since that was last stored. A request therefore needs no
// write to the database.
type keyUse struct {
	mu   sync.Mutex
	last map[string]time.Time // by hash
}

func (u *keyUse) note(hash string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at.After(u.last[hash]) {
		u.last[hash] = at
	}
}

// of returns when a key was last used; stored is the time in its row.
func (u *keyUse) of(hash string, stored time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at := u.last[hash]; at.After(stored) {
		return at
	}
	return stored
}

// take returns the times, and forgets them.
func (u *keyUse) take() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.last
	u.last = map[string]time.Time{}
	return taken
}
