// Package auth decides who a caller is and what that caller may do: machine
// passwords, scope maps, the token endpoint with its signed tokens, and the
// challenge that sends a client there. It reads who exists through
// [Directory] and stores nothing itself.
package auth

import (
	"context"
	"errors"
)

// An Action is one of the actions of a scope map.
type Action string

// The actions on a repository, and those on a gateway.
const (
	ContentRead   Action = "content/read"   // pull
	ContentWrite  Action = "content/write"  // push
	ContentDelete Action = "content/delete" // delete a repository, a manifest, a blob
	MetadataRead  Action = "metadata/read"  // list tags and manifests
	MetadataWrite Action = "metadata/write" // change locks, untag

	ConfigRead   Action = "config/read"
	ConfigWrite  Action = "config/write"
	MessageRead  Action = "message/read"
	MessageWrite Action = "message/write"
)

// ErrUnauthenticated is returned for a wrong name or password, a disabled
// token, an expired password: on purpose it does not say which.
var ErrUnauthenticated = errors.New("invalid user name or password")

// A Kind says what a principal is.
type Kind string

// The kinds of principal.
const (
	KindToken    Kind = "token"    // a machine; its rights are its scope map's
	KindOperator Kind = "operator" // a person or script that manages the registry
)

// A Principal is a caller whose password was right.
type Principal struct {
	Kind        Kind
	Name        string
	Permissions Permissions // what it may do here, now
	Admin       bool        // an operator that may change things; other operators only read
	Generation  string      // of the password that was right; see [Generation]
}

// A Directory knows who exists. Its methods return [ErrUnauthenticated] for
// a name that is not there or may not be used at this registry.
type Directory interface {
	// AuthenticateToken returns the token whose name and password these are, at
	// once. known reports whether the name is a token's, and no operator's.
	AuthenticateToken(name, password string) (p *Principal, known bool, err error)
	// Authenticate returns the principal whose name and password these are. It
	// takes as long for a name that nobody has as for an operator's.
	Authenticate(ctx context.Context, name, password string) (*Principal, error)
	// Lookup returns the principal as it is now, if the password of that
	// generation still is one of its passwords. A signed token's holder is
	// looked up with every request, so this must be cheap.
	Lookup(ctx context.Context, kind Kind, name, generation string) (*Principal, error)
}
