package kube

import (
	"context"
	"net/http"
)

// A Presence watches whether an object exists. The zero value is not valid.
type Presence struct {
	client *Client
	object Ref
	seen   bool // the API has shown the object
}

// NewPresence returns the presence of an object.
func NewPresence(c *Client, object Ref) *Presence { return &Presence{client: c, object: object} }

// Exists reports whether the object exists and is not being deleted. It also counts as deleted if
// the API has shown it, and now refuses the credentials: an uninstallation deletes the service
// account, too. Any other failure is an error, and says nothing about the object.
func (p *Presence) Exists(ctx context.Context) (bool, error) {
	var found Meta
	err := p.client.Get(ctx, p.object, &found)
	switch StatusOf(err) {
	case http.StatusNotFound:
		return false, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		if p.seen {
			return false, nil
		}
	}
	if err != nil {
		return false, err
	}
	p.seen = true
	return found.Metadata.DeletionTimestamp == "", nil
}
