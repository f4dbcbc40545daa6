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
type childSubscription struct {
	repository string   // the only one; "" is all
	platforms  []string // for which images go; none is all
	filters    []string // of tags
	keepLast   int      // of the tags of a repository; 0 is all
}

// all reports whether what no tag leads to is for the child, too.
func (r childSubscription) isUnfiltered() bool {
	return len(r.platforms) == 0 && len(r.filters) == 0 && r.keepLast == 0
}

// within returns what of the child is to get now.
func (p *parent) subscription() childSubscription {
	if r := p.subscribed.Load(); r != nil {
		return *r
	}
	return childSubscription{}
}

// tags returns the tags of a repository that are for the child.
func (p *parent) tags(t testing.TB, repository string) []storage.Tag {
	t.Helper()
	r := p.subscription()
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
type controlPlane struct {
	gateway.ControlPlane
	parent *parent
}

func (p controlPlane) Desired(context.Context, string) (*wire.Desired, error) {
	d, r := &wire.Desired{Version: "1"}, p.parent.subscription()
	if r.repository != "" {
		d.Self.Permissions = []string{"repositories/" + r.repository + "/content/read"}
	}
	d.Self.Platforms, d.Self.TagFilters, d.Self.KeepLast = r.platforms, r.filters, r.keepLast
	return d, nil
}

func (controlPlane) Report(context.Context, string, string, *wire.Report) error { return nil }

func (controlPlane) Changed(string) <-chan struct{} { return nil }

func (controlPlane) Version() int64 { return 0 }

// authenticate says who everybody is: the child.
func (p *parent) authenticate(*http.Request) (*auth.Principal, error) {
	repository := cmp.Or(p.subscription().repository, "*")
	permissions, err := auth.ParsePermissions([]string{"repositories/" + repository + "/content/read",
		"gateway/ship/message/read"})
	return &auth.Principal{Name: "ship", Permissions: permissions}, err
}
