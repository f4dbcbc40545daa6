package api

import "time"

// The roles of an operator.
const (
	RoleAdmin  = "admin"
	RoleReader = "reader"
)

// OperatorID returns the id of an operator.
func OperatorID(name string) string { return "/operators/" + name }

// Rights are the rights of an operator or an API key.
type Rights struct {
	Role string `json:"role" enum:"admin,reader"`
	Reach
}

// Reach says which repositories and connected registries an operator sees. Without limits, both
// lists are empty.
type Reach struct {
	Repositories []string `json:"repositories" nullable:"false" doc:"Names, or such as team/* or *."`
	Labels       []string `json:"labels" nullable:"false" doc:"KEY=VALUE of connected registries; one is enough."`
}

// An Operator is a person or a script that manages an instance.
type Operator struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Rights
	CreationDate      time.Time `json:"creationDate"`
	ProvisioningState string    `json:"provisioningState"`
	Password          *string   `json:"password,omitempty" doc:"Only in the answer that generated it."`
	Tagged
}

// An OperatorPut creates an operator, or replaces it.
type OperatorPut struct {
	Role         string   `json:"role" enum:"admin,reader"`
	Repositories []string `json:"repositories,omitempty" maxItems:"100" doc:"Limits; such as team/*."`
	Labels       []string `json:"labels,omitempty" maxItems:"100" doc:"Limits; such as group=baltic."`
	Password     string   `json:"password,omitempty" maxLength:"1024" doc:"12 characters or more; else a new one."`
}

// An OperatorPatch changes an operator. What is absent stays.
type OperatorPatch struct {
	Role         *string  `json:"role,omitempty" enum:"admin,reader"`
	Repositories []string `json:"repositories,omitzero" maxItems:"100" doc:"Replaces the former ones."`
	Labels       []string `json:"labels,omitzero" maxItems:"100" doc:"Replaces the former ones."`
}

// A PasswordPost sets the password of an operator.
type PasswordPost struct {
	Password string `json:"password,omitempty" maxLength:"1024" doc:"12 characters or more; the default is a new one."`
}

// An APIKey is a password of an operator for scripts, which expires.
type APIKey struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Rights
	CreationDate time.Time  `json:"creationDate"`
	Expiry       time.Time  `json:"expiry"`
	LastUseTime  *time.Time `json:"lastUseTime" doc:"Accurate to some minutes after a crash; null is never."`
	Value        *string    `json:"value,omitempty" doc:"Only in the answer that created it."`
}

// An APIKeyPut creates an API key.
type APIKeyPut struct {
	Expiry       time.Time `json:"expiry" doc:"In at most two years."`
	Role         string    `json:"role,omitempty" enum:"admin,reader" doc:"The default is the operator's."`
	Repositories []string  `json:"repositories,omitempty" maxItems:"100" doc:"Limits beside the operator's."`
	Labels       []string  `json:"labels,omitempty" maxItems:"100" doc:"Limits beside the operator's."`
}

// A Login is the operator of the request, with the rights that it has with these credentials.
type Login struct {
	Name   string  `json:"name"`
	APIKey *string `json:"apiKey" doc:"The name of the API key in the request; null without one."`
	Role   string  `json:"role" enum:"admin,reader"`
	Limits bool    `json:"limits" doc:"Whether it sees only some repositories or connected registries."`
}

// OIDCSettings are the settings with which the command line logs people in.
type OIDCSettings struct {
	Issuer       string `json:"issuer"`
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret,omitempty"`
}
