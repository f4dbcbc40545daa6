package wire

import "time"

// The codes of status details about the password in use.
const (
	PasswordExpires = "PasswordExpires" // soon, and nobody has made another one
	RotationWaits   = "RotationWaits"   // until an operator uses or deletes a newer password
)

// MaxPasswordChanges is how many changes of passwords a poll has at most.
const MaxPasswordChanges = 100

// A PasswordChange asks the root to accept a password that a connected registry has made itself. The
// password is never sent.
type PasswordChange struct {
	Name string `json:"name"` // of the connected registry
	Hash string `json:"hash"` // SHA-256 of the new password, in hex
	// Using is the hash of the password with which the registry logs in now. It stays valid.
	Using string `json:"using,omitempty"`
	// Join and InstanceID are of a registry that exchanged a join token at its parent, instead of
	// Using: the hash of that token, and the instance that did.
	Join       string `json:"join,omitempty"`
	InstanceID string `json:"instanceId,omitempty"`
}

// A JoinRequest exchanges a join token, with which the sender authenticates in the place of a
// password, for a password that the sender has made. The same instance may repeat it.
type JoinRequest struct {
	Name       string `json:"name"`
	InstanceID string `json:"instanceId"`
	Version    string `json:"version"`
	Capability int    `json:"capability"`
	Hash       string `json:"hash"` // SHA-256 of the password, in hex
}

// JoinResponse says that the password is valid now.
type JoinResponse struct {
	Capability int `json:"capability"`
}

// An OwnToken is the sync token of the receiver.
type OwnToken struct {
	Passwords []Password `json:"passwords"`
}

// A JoinToken is a secret that one instance may exchange, once, for a password of its own.
type JoinToken struct {
	Hash      string    `json:"hash"` // SHA-256, in hex
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
	// UsedBy and UsedFor are the instance that has exchanged it, and the hash of the password; "" is
	// not yet.
	UsedBy  string `json:"usedBy,omitempty"`
	UsedFor string `json:"usedFor,omitempty"`
}
