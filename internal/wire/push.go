package wire

import "github.com/opencontainers/go-digest"

// PathPush is where a connected registry in mode ReadWrite sends the changes of its clients. Their
// content is sent to /v2/ before.
const PathPush = "/gateway/v1/push"

// HeaderChangeFollows is in a request that stores a manifest by its digest, if a change follows that
// needs it. Until then the manifest is no item, so that nobody is told of it.
const HeaderChangeFollows = "Ferry-Change-Follows"

// ModeReadWrite is the mode of a connected registry whose clients may push.
const ModeReadWrite = "ReadWrite"

// MaxPushChanges is how many changes a request has at most.
const MaxPushChanges = 100

// MaxPushEarlier is how many earlier digests a change names at most.
const MaxPushEarlier = 16

// PushRequest sends the changes that clients made at the child. They are applied in their order, each
// in a transaction of its own.
type PushRequest struct {
	Name       string   `json:"name"`
	InstanceID string   `json:"instanceId"`
	Capability int      `json:"capability"`
	Changes    []Change `json:"changes"` // at most [MaxPushChanges]
}

// A Change is what a client did to an item at the child: with a Digest it set the item, without one
// it removed it. An item is a tag, a manifest without a tag, or the repository itself, which can only
// be removed.
type Change struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`      // of a tag
	Manifest   digest.Digest `json:"manifest,omitempty"` // of a manifest without a tag
	Digest     digest.Digest `json:"digest,omitempty"`   // which the parent has already
	// Base is the digest that the tag had at the child when a client first changed it; "" is none. The
	// parent refuses the change of a tag that has any other digest, unless it is one of Earlier: digests
	// that earlier requests of the child may have set, "" for a removal.
	Base    digest.Digest   `json:"base,omitempty"`
	Earlier []digest.Digest `json:"earlier,omitempty"` // at most [MaxPushEarlier]
	KeepAs  string          `json:"keepAs,omitempty"`  // the tag that gets Digest if the change is refused so
}

// PushResponse has an outcome for each change, in order.
type PushResponse struct {
	Capability int             `json:"capability"`
	Outcomes   []ChangeOutcome `json:"outcomes"`
}

// A ChangeOutcome is what became of a change.
type ChangeOutcome struct {
	Status string        `json:"status"`           // accepted, conflict, refused or missing
	Digest digest.Digest `json:"digest,omitempty"` // of a conflict: what the tag has; "" is none
	// Seq is the repository's sequence number afterwards. Listings with a lower one may lack the change.
	Seq    int64  `json:"seq,omitempty"`
	Reason string `json:"reason,omitempty"` // why it was refused
}

// The values of [ChangeOutcome.Status].
const (
	ChangeAccepted = "accepted"
	ChangeConflict = "conflict" // the parent's tag changed, too, and stays; KeepAs has the child's digest
	ChangeRefused  = "refused"  // the child may not make it, or a lock forbids it
	ChangeMissing  = "missing"  // the parent does not have Digest: it must be sent first
)

// Registry returns the connected registry that the request is for.
func (r PushRequest) Registry() string { return r.Name }
