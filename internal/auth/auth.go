// Package auth authenticates callers and checks their rights: machine passwords, scope maps, the
// token endpoint with its signed tokens, and the challenge that sends a client there. It looks up
// tokens and operators through [Directory], and stores nothing itself.
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

// ErrUnauthenticated is the error for a wrong name or password, a disabled token and an expired
// password. It does not say which, so that guessing is harder.
var ErrUnauthenticated = errors.New("invalid user name or password")

// A Kind says what a principal is.
type Kind string

// The kinds of principal.
const (
	KindToken    Kind = "token"    // a machine; its rights are its scope map's
	KindOperator Kind = "operator" // a person or script that manages the registry
	// KindAnonymous is a client without credentials. It has no name, and its rights are those of
	// the address that each of its requests comes from.
	KindAnonymous Kind = "anonymous"
)

// A Principal is a caller with the right password.
type Principal struct {
	Kind        Kind
	Name        string
	Permissions Permissions // its rights here, now
	Admin       bool        // an operator that may change things; other operators only read
	Limits      Limits      // of an operator; Permissions are within them already
	Key         string      // the name of the API key with which an operator logged in; "" is its password
	Generation  string      // of the password that the caller used; see [Generation]
}

// ActorOf returns the name in the audit log of a principal that logged in with an API key; "" is none.
func ActorOf(name, key string) string {
	if key == "" {
		return name
	}
	return name + "/" + key
}

// A Directory knows the tokens and operators. Its methods return [ErrUnauthenticated] for a name
// that does not exist or may not be used at this registry.
type Directory interface {
	// AuthenticateToken returns the token with this name and password. It is fast. known reports
	// whether the name is that of a token and of no operator.
	AuthenticateToken(name, password string) (p *Principal, known bool, err error)
	// AuthenticateKey returns the operator with this API key. It is fast. The operator must have the
	// name, unless that is "".
	AuthenticateKey(name, key string) (*Principal, error)
	// Authenticate returns the principal with this name and password. For an unknown name it takes
	// as long as for an operator's name.
	Authenticate(ctx context.Context, name, password string) (*Principal, error)
	// Lookup returns the current principal, if the password of that generation is still valid.
	// Every request with a signed token calls it, so that it must be cheap.
	Lookup(ctx context.Context, kind Kind, name, generation string) (*Principal, error)
}
