package fleet

import (
	"crypto/sha256"
	"io"
	"slices"
	"strings"

	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/subscription"
)

// A subscriptionPath is what a descendant gets: what everyone on the way to it gets.
type subscriptionPath struct {
	registries []*control.Registry // itself first, and then those between it and this instance
	tokens     []*control.Token    // their sync tokens; nil is none
	path       []selection         // of each
	changed    int64               // the number of the last change to one of their subscriptions
	filters    string              // equal filters along the path have the same text
	// subscription is the same text for equal filters and permissions along the path.
	subscription string
	patterns     []string // of the repositories that the descendant itself may read
	gap          bool     // an ancestor may not sync a part of what the descendant may
}

// selection is the part of the content that one connected registry on the path gets.
type selection struct {
	permissions auth.Permissions
	filter      subscription.Filter
	filterID    string // equal filters have the same ID
}

func newSubscriptionPath(state *control.State, registries []*control.Registry) (*subscriptionPath, error) {
	p := &subscriptionPath{registries: registries, tokens: tokensOf(state, registries)}
	for i, r := range registries {
		if err := p.add(state, r, p.tokens[i]); err != nil {
			return nil, err
		}
	}
	p.subscription = p.hash(state)
	p.patterns = p.path[0].permissions.Patterns(auth.ContentRead)
	p.gap = len(registries[0].Settings.Gaps)+len(state.Gaps(registries[0])) > 0
	return p, nil
}

// hash returns a hash of the filters and the permissions along the path.
func (p *subscriptionPath) hash(state *control.State) string {
	h := sha256.New()
	io.WriteString(h, p.filters)
	for _, t := range p.tokens {
		io.WriteString(h, "\n")
		if t == nil {
			continue
		}
		if m := state.ScopeMap(t.ScopeMap); m != nil {
			io.WriteString(h, strings.Join(control.OnRepositories(m.Actions), "\n")+"\n")
		}
	}
	return string(h.Sum(nil))
}

func tokensOf(state *control.State, registries []*control.Registry) (all []*control.Token) {
	for _, r := range registries {
		all = append(all, state.Token(r.SyncToken))
	}
	return all
}

// add adds the selection of a connected registry on the path, with its sync token.
func (p *subscriptionPath) add(state *control.State, r *control.Registry, t *control.Token) (err error) {
	p.changed = max(p.changed, r.Settings.SubscriptionSeq)
	var s selection
	if t != nil { // without its token a registry gets nothing
		p.changed = max(p.changed, t.Seq)
		s.permissions = t.Permissions.WithoutGateways()
		if m := state.ScopeMap(t.ScopeMap); m != nil {
			p.changed = max(p.changed, m.Seq)
		}
	}
	sub := gateway.SubscriptionOf(wireOf(r.ConnectedRegistry, r.Settings))
	sub.Permissions = nil
	s.filterID = sub.ID()
	s.filter, err = sub.Filter()
	p.path = append(p.path, s)
	p.filters += s.filterID + "\n"
	return err
}

// isOf reports whether the path is still that of the registries. A change to a token or to its scope
// map makes another token of the state.
func (p *subscriptionPath) isOf(state *control.State, registries []*control.Registry) bool {
	return slices.Equal(p.registries, registries) && slices.Equal(p.tokens, tokensOf(state, registries))
}

// mayRead reports whether the descendant and everyone on the path may read the repository.
func (p *subscriptionPath) mayRead(repository string) bool {
	return !slices.ContainsFunc(p.path, func(r selection) bool {
		return !r.permissions.AllowsRepository(repository, auth.ContentRead)
	})
}
