package replication_test

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"testing"

	"ferry/internal/auth"
	"ferry/internal/gateway"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// A reach is what of a parent's content is for its child. The zero value is all.
type reach struct {
	repository string   // the only one; "" is all
	platforms  []string // for which images go; none is all
	filters    []string // of tags
	keepLast   int      // of the tags of a repository; 0 is all
}

// all reports whether what no tag leads to is for the child, too.
func (r reach) all() bool { return len(r.platforms) == 0 && len(r.filters) == 0 && r.keepLast == 0 }

// within returns what of the child is to get now.
func (p *parent) within() reach {
	if r := p.reach.Load(); r != nil {
		return *r
	}
	return reach{}
}

// tags returns the tags of a repository that are for the child.
func (p *parent) tags(t testing.TB, repository string) []storage.Tag {
	t.Helper()
	r := p.within()
	all, err := p.Tags(t.Context(), repository, storage.TagOrder{}, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	sc, err := subscription.ParseTags(r.filters, 0)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(tag storage.Tag) bool { return !sc.Matches(tag.Name) })
	if r.keepLast > 0 && len(all) > r.keepLast {
		slices.SortFunc(all, func(a, b storage.Tag) int { return b.UpdatedAt.Compare(a.UpdatedAt) })
		all = all[:r.keepLast]
	}
	return all
}

// plane is a control plane of one connected registry that may read everything.
type plane struct {
	gateway.ControlPlane
	parent *parent
}

func (p plane) Desired(context.Context, string) (*wire.Desired, error) {
	d, r := &wire.Desired{Version: "1"}, p.parent.within()
	if r.repository != "" {
		d.Self.Permissions = []string{"repositories/" + r.repository + "/content/read"}
	}
	d.Self.Platforms, d.Self.TagFilters, d.Self.KeepLast = r.platforms, r.filters, r.keepLast
	return d, nil
}

func (plane) Report(context.Context, string, string, *wire.Report) error { return nil }

func (plane) Changed(string) <-chan struct{} { return nil }

func (plane) Version() int64 { return 0 }

// authenticate says who everybody is: the child.
func (p *parent) authenticate(*http.Request) (*auth.Principal, error) {
	repository := cmp.Or(p.within().repository, "*")
	permissions, err := auth.ParsePermissions([]string{"repositories/" + repository + "/content/read",
		"gateway/ship/message/read"})
	return &auth.Principal{Name: "ship", Permissions: permissions}, err
}
