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

// A childSubscription is the part of the parent's content that the child gets. The zero value
// is everything.
type childSubscription struct {
	repository string   // the only repository; "" is all
	platforms  []string // none is all
	filters    []string // tag filters
	keepLast   int      // newest tags of each repository; 0 is all
}

// isUnfiltered reports whether the child gets untagged manifests, too.
func (s childSubscription) isUnfiltered() bool {
	return len(s.platforms) == 0 && len(s.filters) == 0 && s.keepLast == 0
}

// subscription returns the child's current subscription.
func (p *parent) subscription() childSubscription {
	if s := p.subscribed.Load(); s != nil {
		return *s
	}
	return childSubscription{}
}

// tags returns the tags of a repository that the child gets.
func (p *parent) tags(t testing.TB, repository string) []storage.Tag {
	t.Helper()
	s := p.subscription()
	all, err := p.Tags(t.Context(), repository, storage.TagOrder{}, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	filter, err := subscription.ParseTags(s.filters, 0)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(tag storage.Tag) bool { return !filter.Matches(tag.Name) })
	if s.keepLast > 0 && len(all) > s.keepLast {
		slices.SortFunc(all, func(a, b storage.Tag) int { return b.UpdatedAt.Compare(a.UpdatedAt) })
		all = all[:s.keepLast]
	}
	return all
}

// A controlPlane knows one connected registry, which may read everything.
type controlPlane struct {
	gateway.ControlPlane
	parent *parent
}

func (p controlPlane) Desired(context.Context, string) (*wire.Desired, error) {
	d, s := &wire.Desired{Version: "1"}, p.parent.subscription()
	if s.repository != "" {
		d.Self.Permissions = []string{"repositories/" + s.repository + "/content/read"}
	}
	d.Self.Platforms, d.Self.TagFilters, d.Self.KeepLast = s.platforms, s.filters, s.keepLast
	return d, nil
}

func (controlPlane) Report(context.Context, string, string, *wire.Report) error { return nil }

func (controlPlane) ChangePasswords(context.Context, string, string, []wire.PasswordChange) error {
	return nil
}

func (controlPlane) Changed(string) <-chan struct{} { return nil }

func (controlPlane) Version() int64 { return 0 }

// authenticate takes every client for the child.
func (p *parent) authenticate(*http.Request) (*auth.Principal, error) {
	repository := cmp.Or(p.subscription().repository, "*")
	permissions, err := auth.ParsePermissions([]string{"repositories/" + repository + "/content/read",
		"gateway/ship/message/read"})
	return &auth.Principal{Name: "ship", Permissions: permissions}, err
}
