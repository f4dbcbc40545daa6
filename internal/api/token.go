package api

import "time"

// A token's status.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
)

// A token's password slots.
const (
	Password1 = "password1"
	Password2 = "password2"
)

// A Token is a credential with two passwords and one scope map.
type Token struct {
	ID                string           `json:"id"`
	Name              string           `json:"name"`
	Type              string           `json:"type" doc:"The same for each: the original's type of a resource."`
	ScopeMapID        *string          `json:"scopeMapId" doc:"Null after its scope map was deleted."`
	Status            string           `json:"status" enum:"enabled,disabled"`
	Credentials       TokenCredentials `json:"credentials"`
	CreationDate      time.Time        `json:"creationDate"`
	ProvisioningState string           `json:"provisioningState"`

	Tagged
}

// TokenCredentials are a token's passwords.
type TokenCredentials struct {
	Username  string          `json:"username"` // the token's name
	Passwords []TokenPassword `json:"passwords"`
	// Certificates is for programs that know the reference. No token has any.
	Certificates []string `json:"certificates" nullable:"false" doc:"Always empty."`

	WriteResult
}

// A TokenPassword is one of a token's two passwords. Value is set only in the answer to the request
// that generated it.
type TokenPassword struct {
	Name         string     `json:"name" enum:"password1,password2"`
	CreationTime time.Time  `json:"creationTime"`
	Expiry       *time.Time `json:"expiry"` // null is never
	Value        *string    `json:"value"`
}

// A TokenPut creates or replaces a token.
type TokenPut struct {
	ScopeMap string `json:"scopeMap" minLength:"1" maxLength:"100"`
	Status   string `json:"status,omitempty" maxLength:"16" doc:"enabled (the default) or disabled."`
	// Passwords that are not listed are deleted.
	Passwords []PasswordPut `json:"passwords,omitempty" maxItems:"2" doc:"The passwords to generate."`
}

// A PasswordPut requests a password.
type PasswordPut struct {
	Name   string     `json:"name" enum:"password1,password2"`
	Expiry *time.Time `json:"expiry,omitempty" doc:"The default is never."`
}

// A TokenPatch changes a token.
type TokenPatch struct {
	ScopeMap *string `json:"scopeMap,omitempty" maxLength:"100"`
	Status   *string `json:"status,omitempty" maxLength:"16"`
}

// A CredentialsPost requests new passwords.
type CredentialsPost struct {
	// Passwords that are not listed are deleted.
	Passwords []string   `json:"passwords" nullable:"false" minItems:"1" maxItems:"2" doc:"The passwords to generate."`
	Expiry    *time.Time `json:"expiry,omitempty" doc:"Of the new passwords; the default is never."`
}
