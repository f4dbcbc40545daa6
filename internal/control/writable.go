package control

import (
	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/oci"
)

// errReadOnly answers a write to a ReadOnly connected registry.
var errReadOnly = oci.ErrDenied.With(api.TextReadOnly)

// Writable returns nil if clients may do the actions of need on a repository here, as far as this
// registry is concerned. A root allows everything. A connected registry in mode ReadWrite allows what
// it may do at its parent itself, because it sends each change there.
func (s *Service) Writable(repository string, need ...auth.Action) error {
	if s.self == "" {
		return nil
	}
	own := s.State().Registry(s.self)
	if own == nil || own.Settings.Mode != api.ReadWrite {
		return errReadOnly
	}
	permissions, err := auth.ParsePermissions(own.Settings.Permissions)
	if err != nil {
		return errReadOnly // a newer parent knows more forms
	}
	for _, action := range need {
		if !permissions.AllowsRepository(repository, action) {
			return oci.ErrDenied.With("this registry may not change repository %s at its parent, so nothing is pushed "+
				"or deleted here; at the root registry: ferry connected-registry permissions update -n %s --add %s",
				repository, own.Name, repository)
		}
	}
	return nil
}

// Lockable returns nil if locks may be set here. They are set at the root, and a connected registry
// has those of its parent.
func (s *Service) Lockable() error {
	if s.self == "" {
		return nil
	}
	return oci.ErrDenied.With("locks arrive here with the next sync; ferry repository update at the root registry " +
		"sets them")
}
