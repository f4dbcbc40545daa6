package fleet

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/storage"
)

// MaxPage is the highest number of connected registries on a page.
const MaxPage = 1000

// A ListQuery selects connected registries, and a page of them.
type ListQuery struct {
	By     control.Caller // only what this operator may see
	Parent string         // only its descendants; "" is all
	Direct bool           // only children: of Parent, or of the top
	Filter string         // see [ParseFilter]
	Worst  bool           // the worst first; else each is followed by its descendants
	After  string         // the page begins after the cursor of an earlier page
	Limit  int            // of the page; 0 is no limit
}

// List returns a page of connected registries, and the cursor of the next page; "" is the last one. A
// cursor is a place in the order, so it stays valid if connected registries come, go or change their
// state.
func (s *Service) List(ctx context.Context, q ListQuery) (all []api.ConnectedRegistry, next string, err error) {
	some, err := s.selected(ctx, q)
	if err != nil {
		return nil, "", err
	}
	order := treeOrder
	if q.Worst {
		order = worstFirst
	}
	slices.SortFunc(some, order)
	if q.After != "" {
		after, err := parseCursor(q.After)
		if err != nil {
			return nil, "", err
		}
		at, found := slices.BinarySearchFunc(some, after, order)
		if found {
			at++
		}
		some = some[at:]
	}
	if q.Limit > 0 && len(some) > q.Limit {
		some = some[:q.Limit]
		next = cursorAfter(some[q.Limit-1])
	}
	all = make([]api.ConnectedRegistry, 0, len(some))
	for _, v := range some {
		all = append(all, s.registryWith(q.By, v))
	}
	return all, next, nil
}

// selected returns the standings that a query selects, in the order of the tree.
func (s *Service) selected(ctx context.Context, q ListQuery) (some []*Standing, err error) {
	f, err := ParseFilter(q.Filter)
	if err != nil {
		return nil, err
	}
	state := s.control.State()
	if q.Parent != "" && !state.SeesRegistry(q.By.Limits, q.Parent) {
		return nil, control.MapNotFound(metadb.ErrNotFound, "connected registry", q.Parent)
	}
	err = s.content.View(ctx, func(c *storage.View) error {
		some = nil
		all, err := s.standings(c)
		if err != nil {
			return err
		}
		if own := state.Registry(s.control.Self()); own != nil {
			all = slices.Insert(all, 0, s.ownStanding(own))
		}
		m, err := s.matcher(c, f, q.By)
		if err != nil {
			return err
		}
		for i := range all {
			v := &all[i]
			if q.By.Limits.Any() && !state.SeesRegistry(q.By.Limits, v.Name) {
				continue
			}
			if q.Parent != "" && !v.isBelow(q.Parent) || q.Direct && !v.isChildOf(q.Parent, s.control.Self()) {
				continue
			}
			matches, err := m.matches(v)
			if err != nil {
				return err
			}
			if matches {
				some = append(some, v)
			}
		}
		return ctx.Err()
	})
	return some, err
}

// isBelow reports whether a connected registry is a descendant of another one.
func (v *Standing) isBelow(name string) bool {
	return strings.EqualFold(v.registry.Parent, name) ||
		slices.ContainsFunc(v.above(), func(r *control.Registry) bool {
			return strings.EqualFold(r.Name, name) || strings.EqualFold(r.Parent, name)
		})
}

// above returns the connected registries between a descendant and this instance, its parent first.
func (v *Standing) above() []*control.Registry {
	if v.path == nil {
		return nil
	}
	return v.path.registries[1:]
}

// isChildOf reports whether a connected registry is a child of another one, or of the top of the tree,
// which is self in a connected registry.
func (v *Standing) isChildOf(name, self string) bool {
	if name == "" && self != "" {
		return strings.EqualFold(v.Name, self)
	}
	return strings.EqualFold(v.registry.Parent, name)
}

// treeOrder puts each connected registry before its descendants, and those with one parent by name.
func treeOrder(a, b *Standing) int { return slices.Compare(a.place(), b.place()) }

// place returns the names from the top of the tree to a connected registry, in lower case.
func (v *Standing) place() (names []string) {
	if v.cursor != nil {
		return v.cursor.Place
	}
	for _, r := range slices.Backward(v.above()) {
		names = append(names, strings.ToLower(r.Name))
	}
	return append(names, strings.ToLower(v.Name))
}

// worstFirst orders by the state; puts those that only suffer from another one behind it; and then
// orders by the time since when they differ, the longest first.
func worstFirst(a, b *Standing) int {
	return cmp.Or(
		cmp.Compare(severityOf(b.State), severityOf(a.State)),
		cmp.Compare(min(len(a.Cause), 1), min(len(b.Cause), 1)),
		cmp.Compare(unixOrLast(a.Since), unixOrLast(b.Since)),
		cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)),
	)
}

// unixOrLast is a time as a number. Zero is later than every other time.
func unixOrLast(t time.Time) int64 {
	if t.IsZero() {
		return 1<<63 - 1
	}
	return t.UnixNano()
}

// A cursor is the place of a connected registry in both orders.
type cursor struct {
	Place []string  `json:"p"`
	State string    `json:"s"`
	Cause string    `json:"c,omitempty"`
	Since time.Time `json:"t,omitzero"`
}

func cursorAfter(v *Standing) string {
	text, _ := json.Marshal(cursor{v.place(), v.State, v.Cause, v.Since}) // texts and a time
	return base64.RawURLEncoding.EncodeToString(text)
}

// maxCursor bounds the text of a cursor, in bytes.
const maxCursor = 4096

// parseCursor returns a standing at the place of a cursor.
func parseCursor(text string) (*Standing, error) {
	var c cursor
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil || len(text) > maxCursor || len(c.Place) == 0 {
		return nil, control.Invalid("the cursor of the page cannot be read").
			WithHint("take it from the nextLink of the page before, or leave it out")
	}
	return &Standing{Name: c.Place[len(c.Place)-1], State: c.State, Cause: c.Cause, Since: c.Since, cursor: &c}, nil
}

// withSummary returns a connected registry with its verdict and its summary.
func (s *Service) withSummary(
	ctx context.Context, by control.Caller, r api.ConnectedRegistry, err error,
) (api.ConnectedRegistry, error) {
	if err != nil {
		return r, err
	}
	err = s.content.View(ctx, func(c *storage.View) error {
		v, err := s.standing(c, r.Name)
		if err == nil {
			r.Sync, r.Summary = v.verdict, s.summaryOf(v)
		}
		return err
	})
	return r, err
}

// registryWith returns a connected registry with its standing.
func (s *Service) registryWith(by control.Caller, v *Standing) api.ConnectedRegistry {
	r := s.registryOf(by, v.registry.ConnectedRegistry, v.registry.Settings)
	r.Sync, r.Summary = v.verdict, s.summaryOf(v)
	return r
}

// summaryOf returns a standing in the form of the API, with the time when it should be in sync.
func (s *Service) summaryOf(v *Standing) api.Summary {
	now := s.now()
	a := api.Summary{
		State: v.State, Reason: api.Text(v.Reason), Action: api.Text(actions[v.Reason]), Cause: api.Text(v.Cause),
		Since: api.Time(v.Since), ItemsToGo: v.ItemsToGo(), BytesToGo: v.BytesToGo(),
		AtLeast: v.mayBeMore(), AtMost: v.ItemsUnheard > 0, BytesPerSecond: v.BytesPerSecond,
		NextWindowTime: api.Time(v.NextWindow),
	}
	if !v.Since.IsZero() {
		a.LagSeconds = new(int64(v.Lag(now) / time.Second))
	}
	a.EtaTime, a.EtaWindows = v.eta(now)
	return a
}
