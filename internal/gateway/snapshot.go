package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"ferry/internal/oci"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// snapshotPage is how many items a page has at most.
const snapshotPage = 1000

// A place is where a page of a snapshot goes on: behind a tag of a repository, or
// a manifest that may go for itself; or at the next repository.
type place struct{ repository, kind, after string }

// The kinds of place, in the order in which a repository is read.
const (
	placeTags      = "t"
	placeManifests = "m"
	placeDone      = "d"
)

// snapshot answers with a page of all that the caller may see.
func (s *server) snapshot(ctx context.Context, c caller, q wire.SnapshotRequest) (*wire.SnapshotPage, error) {
	at, err := parsePlace(q.After)
	if err != nil {
		return nil, problem(http.StatusBadRequest, "INVALID", "after is malformed")
	}
	sc, platforms, err := s.scopeOf(ctx, c)
	if err != nil {
		return nil, err
	}
	head, err := s.storage.Head(ctx)
	if err != nil {
		return nil, err
	}
	if at.kind != placeDone && !c.mayRead(at.repository) {
		at.kind = placeDone // its scope was narrowed between two pages, or it made the place up
	}
	page := &wire.SnapshotPage{Cursor: head, Feed: s.feed, Items: []wire.SnapshotItem{}}
	for {
		if at.kind == placeDone {
			next, err := s.nextRepository(ctx, c, at.repository)
			if err != nil || next == "" {
				return page, err
			}
			at = place{next, placeTags, ""}
		}
		room := snapshotPage - len(page.Items)
		if room == 0 {
			page.Next = at.String()
			return page, nil
		}
		items, after, more, err := s.content(ctx, sc, platforms, at, room)
		if err != nil && !errors.Is(err, oci.ErrNameUnknown) { // it went meanwhile
			return nil, err
		}
		page.Items = append(page.Items, items...)
		at.after = after
		switch {
		case more:
		case at.kind == placeTags:
			at = place{at.repository, placeManifests, ""}
		default:
			at = place{at.repository, placeDone, ""}
		}
	}
}

// content returns up to limit items from a place on, those of them that are in
// scope, the name of the last that was looked at, and whether there may be
// more.
func (s *server) content(ctx context.Context, sc subscription.Scope, p subscription.Platforms, at place, limit int) (items []wire.SnapshotItem, after string, more bool, err error) {
	after = at.after
	x, err := s.selects(ctx, sc, p, at.repository, 0)
	if err != nil {
		return nil, after, false, err
	}
	if at.kind == placeTags {
		tags, err := s.storage.Tags(ctx, at.repository, at.after, limit)
		for _, t := range tags {
			in, err := x.has(ctx, t.Name)
			if err != nil {
				return nil, after, false, err
			}
			if after = t.Name; in {
				items = append(items, wire.SnapshotItem{Repository: at.repository, Tag: t.Name, Digest: t.Digest})
			}
		}
		return items, after, len(tags) == limit, err
	}
	manifests, err := s.storage.UnnamedManifests(ctx, at.repository, at.after, limit)
	for _, m := range manifests {
		in, err := x.unnamed(ctx, m.Digest, m.Subject)
		if err != nil {
			return nil, after, false, err
		}
		if after = string(m.Digest); in {
			items = append(items, wire.SnapshotItem{Repository: at.repository, Digest: m.Digest})
		}
	}
	return items, after, len(manifests) == limit, err
}

// nextRepository returns the first repository after a name that the caller
// may read, or "".
func (s *server) nextRepository(ctx context.Context, c caller, after string) (string, error) {
	for {
		all, err := s.storage.Repositories(ctx, after, 500)
		if err != nil || len(all) == 0 {
			return "", err
		}
		for _, r := range all {
			if c.mayRead(r.Name) {
				return r.Name, nil
			}
			after = r.Name
		}
	}
}

// String writes the place as the opaque text that a child sends back.
func (p place) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.repository + "\x00" + p.kind + "\x00" + p.after))
}

func parsePlace(text string) (place, error) {
	if text == "" {
		return place{kind: placeDone}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return place{}, err
	}
	parts := strings.Split(string(raw), "\x00")
	if len(parts) != 3 || oci.CheckRepository(parts[0]) != nil || (parts[1] != placeTags && parts[1] != placeManifests) {
		return place{}, errors.New("malformed place")
	}
	return place{parts[0], parts[1], parts[2]}, nil
}
