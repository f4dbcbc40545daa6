package fleet

import (
	"strings"
	"sync"

	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// checkRoom returns an error if more client tokens for the connected registry at the start of path
// make a child's desired state so large that the child would refuse it. The child is the last on the
// path. The desired state is built only if the child's [room] leaves doubts.
func (s *Service) checkRoom(state *control.State, path []*control.Registry, clientTokens []string) error {
	if len(path) == 0 {
		return nil
	}
	top := path[len(path)-1]
	if ok, err := s.rooms.has(s.control, state, top, clientTokens); ok || err != nil {
		return err
	}
	b := newBuilder(state)
	b.tree(top)
	for _, name := range clientTokens {
		b.clientToken(name)
	}
	size, err := gateway.SizeOf(&b.d)
	if err != nil {
		return err
	}
	if size.Fits() {
		s.rooms.forget(top) // it has much that is not in the desired state any more
		return nil
	}
	return control.Conflict("the connected registry '%s' accepts no more below it: there are %d others, "+
		"and tokens and scope maps for all of them", top.Name, len(b.d.ConnectedRegistries)).
		WithHint("create more connected registries at the top, without --parent, or below another one; or use " +
			"fewer client tokens").Naming(control.KindRegistry + "/" + top.Name)
}

// rooms are those of the children that got descendants or client tokens lately.
type rooms struct {
	mu sync.Mutex
	of map[string]*room // by lower-case name
}

// maxRooms bounds the rooms that are kept.
const maxRooms = 1000

// A room is an upper bound of the size of a child's desired state. Only the rows that were written
// since the last look are read for it, so a look costs the same however many descendants there are.
// Rows of deleted connected registries may still count.
type room struct {
	version int64 // of the state that it is of
	sizes   map[metadb.ControlRow]gateway.DesiredSize
	total   gateway.DesiredSize
	frame   gateway.DesiredSize // of a desired state without any rows
}

// has reports whether the desired state of top certainly has room for more client tokens.
func (all *rooms) has(
	c *control.Service, state *control.State, top *control.Registry, clientTokens []string,
) (ok bool, err error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	name := strings.ToLower(top.Name)
	m := all.of[name]
	var rows []metadb.ControlRow
	if m != nil {
		rows, ok = c.RowsSince(m.version)
	}
	if ok {
		err = m.apply(state, top, rows)
	} else {
		if len(all.of) >= maxRooms {
			clear(all.of)
		}
		m, err = newRoom(state, top)
	}
	if err != nil {
		delete(all.of, name)
		return false, err
	}
	all.of[name] = m
	more := newBuilder(state)
	for _, token := range clientTokens {
		if _, counted := m.sizes[metadb.ControlRow{Table: metadb.TokenRow, Name: token}]; !counted {
			more.clientToken(token)
		}
	}
	size, err := gateway.SizeOf(&more.d)
	return m.total.Plus(size).Fits(), err
}

func (all *rooms) forget(top *control.Registry) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.of, strings.ToLower(top.Name))
}

func newRoom(state *control.State, top *control.Registry) (*room, error) {
	frame, err := gateway.SizeOf(&wire.Desired{})
	if err != nil {
		return nil, err
	}
	m := &room{version: state.Version(), sizes: map[metadb.ControlRow]gateway.DesiredSize{}, total: frame, frame: frame}
	for _, r := range append(state.Below(top.Name), top) {
		if err := m.add(state, r, r == top); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// apply brings the room to a state that may differ in rows.
func (m *room) apply(state *control.State, top *control.Registry, rows []metadb.ControlRow) error {
	m.version = state.Version()
	for _, row := range rows {
		if row.Table == metadb.ConnectedRegistryRow {
			m.remove(row)
			if r := state.Registry(row.Name); r != nil && isWithin(state, r, top) {
				if err := m.add(state, r, r == top); err != nil {
					return err
				}
			}
			continue
		}
		if _, counted := m.sizes[row]; counted {
			m.remove(row)
			b := newBuilder(state)
			if row.Table == metadb.TokenRow {
				b.clientToken(row.Name)
			} else {
				b.scopeMap(row.Name)
			}
			if err := m.addAccess(b); err != nil {
				return err
			}
		}
		for _, name := range state.RegistriesOf(row) {
			r := state.Registry(name)
			_, counted := m.sizes[metadb.ControlRow{Table: metadb.ConnectedRegistryRow, Name: name}]
			if !counted || r == nil || !isSyncedBy(state, r, row) {
				continue
			}
			if err := m.add(state, r, r == top); err != nil {
				return err
			}
		}
	}
	return nil
}

// isWithin reports whether r is top or a descendant of it.
func isWithin(state *control.State, r, top *control.Registry) bool {
	for _, a := range append(state.Ancestors(r.Parent), r) {
		if a == top {
			return true
		}
	}
	return false
}

// isSyncedBy reports whether the row is the sync token of a connected registry, or its scope map.
func isSyncedBy(state *control.State, r *control.Registry, row metadb.ControlRow) bool {
	if row.Table == metadb.TokenRow {
		return r.SyncToken == row.Name
	}
	t := state.Token(r.SyncToken)
	return t != nil && t.ScopeMap == row.Name
}

// add counts a connected registry, and those of its tokens and scope maps that are not counted yet.
func (m *room) add(state *control.State, r *control.Registry, isTop bool) error {
	b := newBuilder(state)
	syncToken := &r.SyncToken
	if isTop {
		syncToken = nil // it has its own
	}
	w := b.registry(r, syncToken)
	w.Gaps = control.Union(w.Gaps, state.PossibleGaps(r))
	row := metadb.ControlRow{Table: metadb.ConnectedRegistryRow, Name: strings.ToLower(r.Name)}
	m.remove(row)
	if err := m.count(row, wire.Desired{ConnectedRegistries: []wire.ConnectedRegistry{w}}); err != nil {
		return err
	}
	return m.addAccess(b)
}

// addAccess counts tokens and scope maps, except those that are counted already.
func (m *room) addAccess(b *builder) error {
	for _, t := range b.d.Tokens {
		row := metadb.ControlRow{Table: metadb.TokenRow, Name: t.Name}
		if err := m.count(row, wire.Desired{Tokens: []wire.Token{t}}); err != nil {
			return err
		}
	}
	for _, s := range b.d.ScopeMaps {
		row := metadb.ControlRow{Table: metadb.ScopeMapRow, Name: s.Name}
		if err := m.count(row, wire.Desired{ScopeMaps: []wire.ScopeMap{s}}); err != nil {
			return err
		}
	}
	return nil
}

// count counts a row as a part of the desired state, unless it is counted already.
func (m *room) count(row metadb.ControlRow, part wire.Desired) error {
	if _, counted := m.sizes[row]; counted {
		return nil
	}
	size, err := gateway.SizeOf(&part)
	if err == nil {
		m.sizes[row] = size.Minus(m.frame)
		m.total = m.total.Plus(m.sizes[row])
	}
	return err
}

func (m *room) remove(row metadb.ControlRow) {
	m.total = m.total.Minus(m.sizes[row])
	delete(m.sizes, row)
}
