package fleet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// The reasons why a connected registry does not get an image.
const (
	notAllowed  = "NotAllowed"
	notSelected = "NotSelected"
	itemFailed  = "ItemFailed"
	itemPending = "Pending"
)

// A CoverageQuery asks which connected registries have an image.
type CoverageQuery struct {
	By      control.Caller // only what this operator may see
	Image   string         // REPOSITORY:TAG or REPOSITORY@DIGEST
	Filter  string         // of connected registries; see [ParseFilter]
	Missing bool           // list only those that should have it and are not known to
	After   string         // the page begins after the connected registry with this name
	Limit   int            // of the page; 0 is no limit
}

// Coverage counts the connected registries that have an image, and lists them by name. next is the
// name after which the next page begins; "" is the last page.
func (s *Service) Coverage(ctx context.Context, q CoverageQuery) (v api.Coverage, next string, err error) {
	ref, err := parseImageRef(q.Image)
	if err != nil {
		return v, "", control.Invalid("image: %v", err)
	}
	f, err := ParseFilter(q.Filter)
	if err != nil {
		return v, "", err
	}
	v = api.Coverage{Time: s.now().UTC(), Image: ref.String(), Value: []api.CoverageItem{}}
	var all []holding
	state := s.control.State()
	err = s.content.View(ctx, func(c *storage.View) error {
		all = nil
		standings, err := s.standings(c)
		if err != nil {
			return err
		}
		m, err := s.matcher(c, f, q.By)
		if err != nil {
			return err
		}
		h, err := s.newHolders(c, ref, q.By)
		if err != nil {
			return err
		}
		v.Digest = string(h.digest)
		for i := range standings {
			st := &standings[i]
			if q.By.Limits.Any() && !state.SeesRegistry(q.By.Limits, st.Name) {
				continue
			}
			matches, err := m.matches(st)
			if err != nil {
				return err
			}
			if !matches {
				continue
			}
			got, err := h.of(st)
			if err != nil {
				return err
			}
			all = append(all, got)
		}
		return ctx.Err()
	})
	if err != nil {
		return v, "", err
	}
	count(&v, all)
	slices.SortFunc(all, func(a, b holding) int { return compareNames(a.at.Name, b.at.Name) })
	for _, got := range all {
		missing := got.state == api.Lacks || got.state == api.Unknown
		if q.Missing && !missing || q.After != "" && compareNames(got.at.Name, q.After) <= 0 {
			continue
		}
		if q.Limit > 0 && len(v.Value) == q.Limit {
			return v, v.Value[q.Limit-1].Name, nil
		}
		v.Value = append(v.Value, api.CoverageItem{
			Name: got.at.Name, Image: got.state, AsOfTime: api.Time(got.at.Heard),
			Reason: api.Text(got.reason), Error: api.Text(got.err), Summary: s.summaryOf(got.at),
		})
	}
	return v, "", nil
}

// coveragePause is the least time between two looks of [Service.AwaitCoverage].
const coveragePause = time.Second

// AwaitCoverage returns the coverage as soon as percent of the sites have the image, or when wait is
// over.
func (s *Service) AwaitCoverage(
	ctx context.Context, q CoverageQuery, percent float64, wait time.Duration,
) (v api.Coverage, next string, err error) {
	over := time.NewTimer(max(wait-coveragePause, 0))
	defer over.Stop()
	for last := wait == 0; ; {
		reported := s.ReportsChanged()
		v, next, err = s.Coverage(ctx, q)
		if err != nil || last || v.Sites > 0 && v.Percent >= percent {
			return v, next, err
		}
		pause(ctx, coveragePause, nil)
		select {
		case <-reported:
		case <-over.C:
			last = true
		case <-ctx.Done():
			last = true
		}
	}
}

// count fills the counts of a coverage.
func count(v *api.Coverage, all []holding) {
	for _, got := range all {
		switch got.state {
		case api.Has:
			v.Have++
		case api.Lacks:
			v.Lack++
		case api.Unknown:
			v.Unknown++
		default:
			v.NotSubscribed++
		}
	}
	if v.Sites = v.Have + v.Lack + v.Unknown; v.Sites > 0 {
		v.Percent = 100 * float64(v.Have) / float64(v.Sites)
	}
}

// compareNames orders names as lists do.
func compareNames(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) }

// A holding is whether one connected registry has an image.
type holding struct {
	at          *Standing
	state       string // api.Has, api.Lacks, api.Unknown or api.NotSubscribed
	reason, err string
}

// holders knows which connected registries have one image. Descendants with the same filters share
// its reads of the content.
type holders struct {
	s      *Service
	view   *storage.View
	cache  *requestCache
	image  imageRef
	digest digest.Digest
	items  map[string][]gateway.Item // that lead to the image, by filter
	scopes map[scopeKey]scopeSeqs    // results of scopeSeqs
}

func (s *Service) newHolders(c *storage.View, ref imageRef, by control.Caller) (*holders, error) {
	h := &holders{s: s, view: c, image: ref, digest: digest.Digest(ref.digest),
		items: map[string][]gateway.Item{}, scopes: map[scopeKey]scopeSeqs{}}
	unknown := control.Refuse(api.CodeNotFound, "this registry has no image %s", ref).
		WithHint("see its tags: ferry repository show-tags --repository %s", ref.repository)
	if !by.Limits.Covers(ref.repository) {
		return nil, unknown
	}
	if ref.tag != "" {
		tags, err := c.Tags(ref.repository)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(tags, func(t storage.Tag) bool { return t.Name == ref.tag })
		if at < 0 {
			return nil, unknown
		}
		h.digest = tags[at].Digest
	} else if _, err := c.Manifest(ref.repository, h.digest); errors.Is(err, oci.ErrManifestUnknown) {
		return nil, unknown
	} else if err != nil {
		return nil, err
	}
	var err error
	h.cache, err = newRequestCache(c)
	if err == nil {
		h.cache.entries = map[string]storage.FeedEntry{}
	}
	return h, err
}

// of returns whether a connected registry has the image.
func (h *holders) of(v *Standing) (holding, error) {
	got := holding{at: v, state: api.NotSubscribed}
	p := v.path
	if !p.mayRead(h.image.repository) {
		got.reason = notAllowed
		return got, nil
	}
	items, err := h.selected(p)
	if err != nil || len(items) == 0 {
		got.reason = notSelected
		return got, err
	}
	d := descendant{Registry: v.registry, report: *v.report, cache: h.cache, subscriptionPath: p,
		watermark: h.s.watermarkOf(v.report.Status, h.cache.head)}
	scope, err := h.scopesOf(d)
	if err != nil {
		return got, err
	}
	got.state, got.reason = api.Lacks, cmp.Or(v.Reason, itemPending)
	if !v.Active || v.Heard.IsZero() {
		return got, nil
	}
	for _, i := range items {
		item := d.stateOf(selectedTag{repository: h.image.repository, name: i.Tag, digest: i.Digest, seq: i.Seq,
			scopeSeq: scope.of(i.Tag)})
		if o, ok := d.reported(h.image.repository, item.Key); ok {
			item = withParentDigest(o, item.ParentDigest)
		}
		switch item.State {
		case api.InSync:
			return holding{at: v, state: api.Has}, nil
		case api.Unknown:
			got.state = api.Unknown
		case api.Failed:
			got.reason = itemFailed
			if item.Error != nil {
				got.err = *item.Error
			}
		}
	}
	return got, nil
}

// reported returns the item that a report lists as out of sync.
func (v descendant) reported(repository, key string) (i api.SyncItem, ok bool) {
	for _, o := range v.report.Status.OutOfSync {
		if o.Repository == repository && cmp.Or(o.Tag, string(o.Digest)) == key {
			return SyncItemOf(o), true
		}
	}
	return i, false
}

// selected returns the items that lead to the image and that everyone on a path gets.
func (h *holders) selected(p *subscriptionPath) (items []gateway.Item, err error) {
	if items, ok := h.items[p.filters]; ok {
		return items, nil
	}
	for n, hop := range p.path {
		some, err := gateway.LeadingItems(h.view, h.image.repository, hop.filter, h.digest)
		if err != nil {
			return nil, err
		}
		if h.image.tag != "" {
			some = slices.DeleteFunc(some, func(i gateway.Item) bool { return i.Tag != h.image.tag })
		}
		if n > 0 {
			some = slices.DeleteFunc(some, func(i gateway.Item) bool {
				return !slices.ContainsFunc(items, func(o gateway.Item) bool { return o.Name() == i.Name() })
			})
		}
		items = some
	}
	h.items[p.filters] = items
	return items, nil
}

// A scopeKey is everything on which the result of [holders.scopesOf] depends.
type scopeKey struct {
	filters   string
	watermark int64
}

// scopesOf returns the result of [descendant.scopeSeqs] for the repository of the image.
func (h *holders) scopesOf(v descendant) (scope scopeSeqs, err error) {
	key := scopeKey{v.filters, v.watermark}
	if known, ok := h.scopes[key]; ok {
		return known, nil
	}
	entry, err := v.cache.entry(h.view, h.image.repository)
	if err != nil {
		return scope, err
	}
	scope, err = v.scopeSeqs(h.view, entry, v.watermark)
	h.scopes[key] = scope
	return scope, err
}

// matcher returns a filter for the content of a view. It finds out which connected registries have
// the images in the filter.
func (s *Service) matcher(c *storage.View, f Filter, by control.Caller) (m matcher, err error) {
	m = matcher{terms: f.terms, now: s.now(), holders: make([]*holders, len(f.terms))}
	if by.Limits.Any() {
		state := s.control.State()
		m.sees = func(name string) bool { return state.SeesRegistry(by.Limits, name) }
	}
	for i, t := range f.terms {
		if t.key != "image" {
			continue
		}
		if m.holders[i], err = s.newHolders(c, t.image, by); err != nil {
			return m, err
		}
	}
	return m, nil
}
