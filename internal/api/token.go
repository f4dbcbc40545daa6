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
	ScopeMapID        string           `json:"scopeMapId"`
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

	WriteResult
}

// A TokenPassword is one of a token's two slots. Value is there only in the
// answer to the call that made it.
type TokenPassword struct {
	Name         string     `json:"name" enum:"password1,password2"`
	CreationTime time.Time  `json:"creationTime"`
	Expiry       *time.Time `json:"expiry"` // null is never
	Value        *string    `json:"value"`
}

// A TokenPut is a token as it is to be.
type TokenPut struct {
	ScopeMap  string        `json:"scopeMap" minLength:"1" maxLength:"100"`
	Status    string        `json:"status,omitempty" maxLength:"16" doc:"enabled, which is the default, or disabled."`
	Passwords []PasswordPut `json:"passwords,omitempty" maxItems:"2" doc:"The passwords to make. A slot that is not named is empty then."`
}

// A PasswordPut is a password to make.
type PasswordPut struct {
	Name   string     `json:"name" enum:"password1,password2"`
	Expiry *time.Time `json:"expiry,omitempty" doc:"Never, where it is not given."`
}

// A TokenPatch is what is to change of a token.
type TokenPatch struct {
	ScopeMap *string `json:"scopeMap,omitempty" maxLength:"100"`
	Status   *string `json:"status,omitempty" maxLength:"16"`
}

// A CredentialsPost says which passwords to make.
type CredentialsPost struct {
	Passwords []string   `json:"passwords" nullable:"false" minItems:"1" maxItems:"2" doc:"password1, password2, or both."`
	Expiry    *time.Time `json:"expiry,omitempty" doc:"Of the new passwords; never, where it is not given."`
}
