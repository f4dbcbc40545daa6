package fleet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// registryName matches the names of connected registries. The reference allows 5 to 40 characters
// in one place and 5 to 50 in another.
var registryName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{4,49}$`)

func checkRegistryName(name string) error {
	if !registryName.MatchString(name) {
		return control.Invalid("'%.100s' is not a name for a connected registry: "+
			"want 5 to 50 letters, digits, '_' or '-', beginning with a letter", name)
	}
	return nil
}

// Create creates a connected registry with everything that belongs to it, or nothing at all. It
// creates the sync token, without passwords, and its scope map, which replaces one of the same
// name. It adds the actions of the new scope map to the scope map of each ancestor, so that the
// ancestors may pass the content on. If the connected registry exists exactly as requested, it is
// returned unchanged, so that a request can be repeated.
func (s *Service) Create(ctx context.Context, by control.Caller, name string, put api.RegistryPut,
	when control.Precondition) (r api.ConnectedRegistry, err error) {
	err = s.control.Write(ctx, by, "create", "connected-registries/"+name, func(tx *metadb.Tx) error {
		c, err := s.newCreation(tx, by, name, put)
		if err != nil {
			return err
		}
		old, err := tx.ConnectedRegistry(name)
		exists, err := when.CheckPut(old.Version, err, "connected registry", name)
		if err != nil {
			return err
		}
		if exists {
			err = c.compare(tx, old)
		} else {
			err = c.create(tx)
		}
		if err != nil {
			return err
		}
		r, err = s.readRegistry(tx, by, name)
		return err
	})
	return s.withSummary(ctx, by, r, err)
}

// A creation is a connected registry that is being created.
type creation struct {
	s         *Service
	row       metadb.ConnectedRegistry
	spec      control.Spec
	state     *control.State
	ancestors []*control.Registry
	actions   []string // of its scope map, on repositories
	scopeMap  string   // of its sync token
	ownToken  bool     // the sync token is created, too
}

// newCreation makes all checks that need no writes.
func (s *Service) newCreation(
	tx *metadb.Tx, by control.Caller, name string, put api.RegistryPut,
) (*creation, error) {
	if err := checkRegistryName(name); err != nil {
		return nil, err
	}
	if err := s.checkReferences(by, put); err != nil {
		return nil, err
	}
	if (put.SyncToken == "") == (len(put.Repositories) == 0) {
		return nil, control.Invalid("either --sync-token or --repository must be provided, but not both")
	}
	c := &creation{s: s, spec: defaults(), scopeMap: name, ownToken: put.SyncToken == ""}
	switch {
	case put.Mode == "" || strings.EqualFold(put.Mode, api.ReadOnly):
	case strings.EqualFold(put.Mode, api.ReadWrite):
		c.spec.Mode = api.ReadWrite
	default:
		return nil, control.Invalid("'%.32s' is not a mode: want ReadOnly or ReadWrite", put.Mode)
	}
	if err := changeSettings(&c.spec.Spec, put.Settings); err != nil {
		return nil, err
	}
	var err error
	if c.spec.Notifications, err = s.notifications(put.Notifications); err != nil {
		return nil, err
	}
	c.state = s.control.State() // the state as of this transaction
	if n := c.state.Count(); n >= s.control.Maxima().ConnectedRegistries {
		return nil, control.Conflict("there are %d connected registries already, which is the most", n).
			WithHint("raise connected-registries in --limits of ferry serve")
	}
	c.row = metadb.ConnectedRegistry{Name: name, SyncToken: cmp.Or(put.SyncToken, name), CreatedAt: s.now()}
	if err := c.setParent(put.Parent); err != nil {
		return nil, err
	}
	if c.spec.ClientTokens, err = s.checkClientTokens(tx, put.ClientTokens); err != nil {
		return nil, err
	}
	if other := c.state.SyncedBy(c.row.SyncToken); other != nil && !strings.EqualFold(other.Name, name) {
		return nil, control.Conflict("the token '%s' is the sync token of the connected registry '%s'", c.row.SyncToken,
			other.Name).
			WithHint("leave --sync-token out, or name another token; or delete that one first: "+
				"ferry connected-registry delete -n %s", other.Name).Naming(control.KindRegistry + "/" + other.Name)
	}
	if !c.ownToken {
		return c, c.readToken(tx)
	}
	if err := checkRepositories(put.Repositories); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(put.Repositories, func(r string) bool { _, is := auth.Excluded(r); return !is }) {
		return nil, control.Invalid("--repository has exclusions only, so there is nothing to sync").
			WithHint("name what to sync, too, such as 'team/*'")
	}
	c.actions, err = control.Normalize(repositoryActions(put.Repositories, c.spec.Mode))
	return c, err
}

// checkReferences returns an error unless the caller may see everything to which a creation refers.
func (s *Service) checkReferences(by control.Caller, put api.RegistryPut) error {
	if put.Parent != "" {
		if err := s.control.CheckReference(by, control.KindRegistry, put.Parent); err != nil {
			return err
		}
	}
	if put.SyncToken != "" {
		if err := s.control.CheckReference(by, control.KindToken, put.SyncToken); err != nil {
			return err
		}
	}
	return s.checkTokenReferences(by, put.ClientTokens)
}

func (s *Service) checkTokenReferences(by control.Caller, names []string) error {
	for _, name := range names {
		name = strings.TrimPrefix(name, api.TokenID(""))
		if err := s.control.CheckReference(by, control.KindToken, name); err != nil {
			return err
		}
	}
	return nil
}

func (c *creation) setParent(name string) error {
	if name == "" {
		return nil
	}
	parent := c.state.Registry(name)
	if parent == nil {
		return control.Refuse(api.CodeNotFound, "the parent connected registry '%.100s' could not be found", name).
			WithHint("see ferry connected-registry list")
	}
	if c.spec.Mode == api.ReadWrite && parent.Settings.Mode != api.ReadWrite {
		return control.Invalid("the parent '%s' is ReadOnly, so that nothing can be sent up through it", parent.Name).
			WithHint("create it with --mode ReadOnly, or below the root, or below a ReadWrite connected registry")
	}
	c.row.Parent = parent.Name
	c.ancestors = c.state.Ancestors(parent.Name)
	if most := c.s.control.Maxima().Levels; len(c.ancestors) >= most {
		return control.Invalid("there can be at most %d levels of connected registries", most)
	}
	return nil
}

// checkClientTokens returns the tokens without duplicates. All of them must exist.
func (s *Service) checkClientTokens(tx *metadb.Tx, names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		name = strings.TrimPrefix(name, api.TokenID(""))
		if _, err := tx.Token(name); err != nil {
			return nil, control.MapNotFound(err, "token", name)
		}
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all, s.checkTokenCount(len(all))
}

func (s *Service) checkTokenCount(n int) error {
	if most := s.control.Maxima().ClientTokens; n > most {
		return control.Invalid("%d client tokens are too many: at most %d are allowed", n, most).
			WithHint("raise client-tokens in --limits of ferry serve")
	}
	return nil
}

// readToken reads the scope map of an existing sync token. The scope map must allow all that a sync
// needs on each repository that it names.
func (c *creation) readToken(tx *metadb.Tx) error {
	token, err := tx.Token(c.row.SyncToken)
	if err != nil {
		return control.MapNotFound(err, "token", c.row.SyncToken)
	}
	if token.ScopeMap == "" {
		return control.Invalid("the token '%s' has no scope map that could say what to sync", token.Name)
	}
	m, err := tx.ScopeMap(token.ScopeMap)
	if err != nil {
		return control.MapNotFound(err, "scope map", token.ScopeMap)
	}
	c.scopeMap, c.actions = m.Name, control.OnRepositories(m.Actions)
	var needed []string
	for _, a := range c.actions {
		_, repository, _, err := auth.ParseAction(a)
		if err != nil {
			return err
		}
		if _, isExclusion := auth.Excluded(repository); !isExclusion {
			needed = control.Union(needed, repositoryActions([]string{repository}, c.spec.Mode))
		}
	}
	if missing := control.Without(needed, c.actions); len(missing) > 0 || len(needed) == 0 {
		return control.Invalid("the sync token '%s' must have the actions that a sync needs on every repository "+
			"it names",
			token.Name).
			WithHint("the mode %s needs %s; missing: %s", c.spec.Mode, textOf(modeActions(c.spec.Mode)),
				strings.Join(missing[:min(len(missing), 5)], ", "))
	}
	return nil
}

// create writes everything.
func (c *creation) create(tx *metadb.Tx) error {
	if err := c.s.checkRoom(c.state, c.ancestors, c.spec.ClientTokens); err != nil {
		return err
	}
	if c.ownToken {
		if err := c.createToken(tx); err != nil {
			return err
		}
	}
	if err := c.s.grant(tx, c.scopeMap, nil, gatewayActions(c.row.Name)); err != nil {
		return err
	}
	for _, a := range c.ancestors {
		scopeMap, err := syncScopeMap(tx, a.ConnectedRegistry)
		if err != nil {
			return err
		}
		if err := c.s.grant(tx, scopeMap, c.actions, gatewayActions(c.row.Name)); err != nil {
			return err
		}
	}
	return control.PutSpec(tx, c.row, c.spec)
}

// createToken creates the sync token and its scope map. They replace those of a deleted connected
// registry of the same name.
func (c *creation) createToken(tx *metadb.Tx) error {
	name := c.row.Name
	m := metadb.ScopeMap{
		Name: name, Type: api.UserDefined, Actions: c.actions, CreatedAt: c.row.CreatedAt,
		Description: "What the connected registry " + name + " syncs",
	}
	if _, err := c.s.control.WriteScopeMap(tx, m); err != nil {
		return err
	}
	old, err := control.OrNil(tx.Token(name))
	if err == nil && old == nil {
		err = c.s.control.CheckNewToken(tx, name)
	}
	if err != nil {
		return err
	}
	return tx.PutToken(metadb.Token{Name: name, ScopeMap: name, Status: api.Enabled, CreatedAt: c.row.CreatedAt})
}

// compare returns an error unless the existing row equals the requested one.
func (c *creation) compare(tx *metadb.Tx, old metadb.ConnectedRegistry) error {
	v, err := control.SpecOf(old)
	if err != nil {
		return err
	}
	actions := c.actions
	if token, err := tx.Token(old.SyncToken); err == nil {
		if m, err := tx.ScopeMap(token.ScopeMap); err == nil {
			actions = control.OnRepositories(m.Actions)
		}
	}
	v.Epoch, v.Resync, v.Verify, v.Permissions, v.SubscriptionSeq, v.Former = 0, 0, 0, nil, 0, nil
	v.ResyncAt, v.Join = time.Time{}, nil
	had, err := json.Marshal(v)
	if err != nil {
		return err
	}
	wanted, err := json.Marshal(c.spec)
	if err != nil {
		return err
	}
	same := old.Parent == c.row.Parent && old.SyncToken == c.row.SyncToken && bytes.Equal(had, wanted) &&
		len(control.Without(actions, c.actions)) == 0 && len(control.Without(c.actions, actions)) == 0
	if !same {
		return control.Conflict("the connected registry '%s' exists already", old.Name).
			WithHint("change it with ferry connected-registry update -n %s, or delete it first", old.Name)
	}
	return nil
}
