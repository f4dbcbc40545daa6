package api

import "time"

// The types of a scope map.
const (
	UserDefined   = "UserDefined"
	SystemDefined = "SystemDefined"
)

// A ScopeMap is a named list of actions.
type ScopeMap struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Type        string   `json:"type" enum:"UserDefined,SystemDefined"`
	Description string   `json:"description"`
	Actions     []string `json:"actions"`
	// AnonymousNetworks may pull without credentials what the actions allow to read.
	AnonymousNetworks []string  `json:"anonymousNetworks,omitempty"`
	CreationDate      time.Time `json:"creationDate"`
	ProvisioningState string    `json:"provisioningState"`

	Tagged
}

// A ScopeMapPut creates or replaces a scope map.
type ScopeMapPut struct {
	Description string   `json:"description,omitempty" doc:"At most 256 characters."`
	Actions     []string `json:"actions" nullable:"false" minItems:"1" maxItems:"5000"`

	AnonymousNetworks []string `json:"anonymousNetworks,omitempty" maxItems:"32"`
}

// A ScopeMapPatch changes a scope map. Actions are removed before others are added.
type ScopeMapPatch struct {
	Description   *string  `json:"description,omitempty" doc:"At most 256 characters."`
	AddActions    []string `json:"addActions,omitempty" maxItems:"5000"`
	RemoveActions []string `json:"removeActions,omitempty" maxItems:"5000"`
	// AnonymousNetworks replaces the networks; nil leaves them as they are.
	AnonymousNetworks []string `json:"anonymousNetworks,omitzero" maxItems:"32"`
}

// A PermissionsPatch changes the repositories that a connected registry may sync.
type PermissionsPatch struct {
	// Add gives the actions of the mode to the connected registry and to all its ancestors.
	Add []string `json:"add,omitempty" maxItems:"5000" doc:"NAME, PREFIX/*, * or an exclusion such as !NAME."`
	// Remove takes every action from the connected registry and from all its descendants.
	Remove []string `json:"remove,omitempty" maxItems:"5000" doc:"As they are in the scope map."`
}
