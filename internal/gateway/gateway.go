// Package gateway is the sync protocol between a parent and its connected
// registries: the parent's handlers and the child's client. Package wire has
// its types, and docs/protocol.md describes it.
//
// It is written for round trips of 600 ms: an idle cycle is one request and
// response, and the first byte of a changed layer flows after two.
package gateway

import (
	"context"

	"ferry/internal/wire"
)

// The errors that both ends know; the client returns them, wrapped, with the
// parent's words and hint.
var (
	// ErrAlreadyActivated: another instance holds the connected registry.
	ErrAlreadyActivated error = refusal("another instance is activated as this connected registry")
	// ErrNotActivated: this instance holds it no longer; it may try to activate.
	ErrNotActivated error = refusal("this instance is not activated")
	// ErrUnauthorized: the sync token or its password is wrong.
	ErrUnauthorized error = refusal("the parent rejects the sync token")
	// ErrUnknown: there is no such connected registry.
	ErrUnknown error = refusal("the parent knows no such connected registry")
)

// A refusal stands until somebody changes something at the parent.
type refusal string

// Error returns the refusal in words.
func (e refusal) Error() string { return string(e) }

// Permanent reports that another try is useless; see package retry.
func (e refusal) Permanent() bool { return true }

// A ControlPlane is what the parent's handlers need to know and to tell.
type ControlPlane interface {
	// Activate binds instance to name. It returns ErrAlreadyActivated when
	// another holds it, ErrUnknown when there is no such connected registry.
	// It does nothing when the instance holds it already.
	Activate(ctx context.Context, name, instance, version string) error
	// Version counts what was decided: it is at least that of what Desired
	// returns afterwards.
	Version() int64
	// CatchUp returns once Version is at least version.
	CatchUp(ctx context.Context, version int64) error
	// Desired returns the subtree of name; ErrUnknown as above.
	Desired(ctx context.Context, name string) (*wire.Desired, error)
	// Report keeps what name says of itself and of those below it. It returns
	// ErrNotActivated when instance does not hold name. A nil report says that
	// nothing is other than in the last.
	Report(ctx context.Context, name, instance string, r *wire.Report) error
	// Changed returns a channel that is closed when the result of Desired may
	// be another than before the call.
	Changed(name string) <-chan struct{}
}
