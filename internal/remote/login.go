package remote

import (
	"context"
	"fmt"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// A LoginError says that the login that docker login cached for a registry
// cannot be read, such as if a credential helper is not installed.
type LoginError struct {
	Host string
	error
}

// Error names the registry.
func (e *LoginError) Error() string { return fmt.Sprintf("read the login for %s: %s", e.Host, e.error) }

// Unwrap returns the cause.
func (e *LoginError) Unwrap() error { return e.error }

// cachedLogins returns the logins that docker login cached in store.
func cachedLogins(store credentials.Store) auth.CredentialFunc {
	read := credentials.Credential(store)
	return func(ctx context.Context, host string) (auth.Credential, error) {
		login, err := read(ctx, host)
		if err != nil && ctx.Err() == nil {
			err = &LoginError{host, err}
		}
		return login, err
	}
}
