// Package wire is what a parent and a child agree on, and nothing else: the types of the gateway
// protocol, which are the requests of a connected registry, the child, and the answers of its
// parent; and the connection string. docs/protocol.md describes the protocol.
package wire

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Capability is the version of the protocol that this program speaks. Both
// sides send theirs, and use the lower one.
//
//   - 1: activate, poll, plan, blobs; the fetch methods "whole" and "batch".
//   - 2: the same, with other names of fields; see docs/protocol.md.
const Capability = 2

// The paths of the protocol at the parent's address.
const (
	PathActivate = "/gateway/v1/activate"
	PathPoll     = "/gateway/v1/poll"
	PathPlan     = "/gateway/v1/plan"
	PathBlobs    = "/gateway/v1/blobs"
	PathJoin     = "/gateway/v1/join"
)

// ActivateRequest binds a running instance to a connected registry. A child
// sends it at its first start, and again after an answer with the [Problem.Code]
// "NOT_ACTIVATED".
type ActivateRequest struct {
	Name       string `json:"name"`       // of the connected registry
	InstanceID string `json:"instanceId"` // created at the first start, and kept in the database
	Version    string `json:"version"`    // of the child's program
	Capability int    `json:"capability"`
}

// ActivateResponse has the desired state of the child.
type ActivateResponse struct {
	Capability int      `json:"capability"`
	Desired    *Desired `json:"desired"`
}

// PollRequest brings the child's report, and asks for the listings of the
// repositories that changed.
type PollRequest struct {
	Name       string `json:"name"`
	InstanceID string `json:"instanceId"`
	Capability int    `json:"capability"`

	// Feed, Subscription and Cursor are the child's place: for Subscription, it has recorded the
	// listings of all repositories up to Cursor in Feed. All three are absent if the child has no
	// place yet, or wants every repository listed again.
	Feed         string `json:"feed,omitempty"`
	Subscription string `json:"subscription,omitempty"`
	Cursor       int64  `json:"cursor,omitempty"`
	// Since is the last Cursor at which the parent had nothing more to send; it is lower than Cursor
	// while answers have More. The child has recorded every change up to there. nil is Cursor itself.
	Since *int64 `json:"since,omitempty"`
	// Pass is the feed's head when the running pass over every repository began. Listings are
	// complete during a pass. 0 is no pass.
	Pass int64 `json:"pass,omitempty"`

	// Locks says whether the child has the locks of everything up to Cursor: [LocksKnown] or
	// [LocksWanted]. Absent: an earlier build, which ignores locks.
	Locks string `json:"locks,omitempty"`

	// Page asks for a complete listing, or the rest of one, which is sent first. nil is none.
	Page           *Page  `json:"page,omitempty"`
	DesiredVersion string `json:"desiredVersion,omitempty"` // of the desired state that the child has applied
	// Report is nil if nothing changed since the last one that the parent answered.
	Report *Report `json:"report,omitempty"`
	// PasswordChanges ask the root to accept new passwords, at most [MaxPasswordChanges]: of the child's
	// sync token, and of those of its descendants. A child sends each until its desired state has it,
	// and only to a parent whose desired states have OwnToken.
	PasswordChanges []PasswordChange `json:"passwordChanges,omitempty"`
	// Suspects are blobs that came with content that does not match their digest, at most 16. The
	// parent reads them again.
	Suspects []Want `json:"suspects,omitempty"`
	// Events and Audit are what happened here and at descendants, oldest first, at most 200 each. A
	// child sends them only to a parent whose last answer had Stored. It sends them again until the
	// parent has stored them.
	Events []Event      `json:"events,omitempty"`
	Audit  []AuditEntry `json:"audit,omitempty"`

	WaitSeconds int `json:"waitSeconds,omitempty"` // how long the parent may hold the request; at most 60
}

// The values of [PollRequest.Locks].
const (
	LocksKnown  = "known"
	LocksWanted = "wanted" // if the parent has any locks, it answers with Restart
)

// A Page is a place in a complete listing.
type Page struct {
	Repository string `json:"repository"`
	Seq        int64  `json:"seq,omitempty"`   // of the listing of which the child has a part; 0 is none
	After      string `json:"after,omitempty"` // the name of the last item of that part
}

// PollResponse has the listings of the repositories that changed since the
// request's cursor.
type PollResponse struct {
	Capability   int    `json:"capability"`
	Feed         string `json:"feed"`
	Subscription string `json:"subscription"`
	Cursor       int64  `json:"cursor"` // the child's next cursor
	// Restart says that the child's place was not usable. A pass over every repository begins with
	// this answer.
	Restart bool  `json:"restart,omitempty"`
	Head    int64 `json:"head,omitempty"` // with Restart: the feed's head, at least 1
	More    bool  `json:"more,omitempty"` // there are more listings: poll again at once

	// Locks says that the listings have locks. Absent: the parent is an earlier build.
	Locks bool `json:"locks,omitempty"`

	Listings []Listing `json:"listings,omitempty"` // by the sequence number of their repositories
	Desired  *Desired  `json:"desired,omitempty"`  // nil if the child has this version

	// SpreadSeconds is the time over which the children of this parent spread their requests
	// after a change: each begins at a random moment within it.
	SpreadSeconds int `json:"spreadSeconds,omitempty"`

	// ReceivesChanges says that the parent receives the changes of this child's clients, at [PathPush].
	// Absent: it is an earlier build, or the child's mode is ReadOnly.
	ReceivesChanges bool `json:"receivesChanges,omitempty"`

	// Watermarks are, by feed, the sequence numbers up to which the parent has everything of each
	// of its ancestors. They hold for the child once it has recorded everything up to Cursor.
	Watermarks map[string]int64 `json:"watermarks,omitempty"`
	// Lacking are items that the watermarks cover although the parent does not have them, because
	// they fail permanently. A parent that lacks more than 50 sends no newer watermark.
	Lacking []OutOfSyncItem `json:"lacking,omitempty"`

	// Stored says how many of the request's events and audit entries need not be sent again. nil is a
	// parent of an earlier build, which takes none.
	Stored *Stored `json:"stored,omitempty"`
}

// Stored says how many of the first events and audit entries of a request the parent has stored.
type Stored struct {
	Events int `json:"events,omitempty"`
	Audit  int `json:"audit,omitempty"`
}

// An Event is something that happened to content at a connected registry.
type Event struct {
	ID         string        `json:"id"`       // unique for its registry
	Registry   string        `json:"registry"` // the connected registry where it happened
	At         time.Time     `json:"at"`       // by the clock there
	Type       string        `json:"type"`     // push, delete, complete, failed, first_pull or dropped
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	MediaType  string        `json:"mediaType,omitempty"`
	Size       int64         `json:"size,omitempty"`   // of the manifest, in bytes; of dropped: their number
	Reason     string        `json:"reason,omitempty"` // a code, of a failure
	Detail     string        `json:"detail,omitempty"` // for people
}

// An AuditEntry is an entry of the audit log of a connected registry.
type AuditEntry struct {
	ID       string    `json:"id"`       // unique for its registry
	Registry string    `json:"registry"` // the connected registry that wrote it
	At       time.Time `json:"at"`
	Actor    string    `json:"actor,omitempty"`
	Sender   string    `json:"sender,omitempty"`
	Action   string    `json:"action"`
	Object   string    `json:"object"`
	Detail   string    `json:"detail,omitempty"`
}

// A Listing is the items of one repository that the child's subscription
// selects, at one sequence number. It is complete, a page of a complete one, or
// short. A short listing has only the changes since the request's cursor.
type Listing struct {
	Repository string `json:"repository"`
	Seq        int64  `json:"seq"`             // of the repository's last change
	Items      []Item `json:"items,omitempty"` // by name; in a short listing those that were added or changed
	Locks      int    `json:"locks,omitempty"` // of the repository, as bits; see [Item]

	// Of a page.
	After string `json:"after,omitempty"` // the name of the last item of the page before
	More  bool   `json:"more,omitempty"`  // another page follows, if the child asks for it

	// Of a short listing.
	Short bool     `json:"short,omitempty"`
	Gone  []string `json:"gone,omitempty"`  // the names of items that were removed
	Count int      `json:"count,omitempty"` // how many items the complete listing has
	Sum   string   `json:"sum,omitempty"`   // the checksum of the complete listing
	// LockSum is the checksum of all locks in the repository. A child of an earlier build ignores it.
	LockSum string `json:"lockSum,omitempty"`
}

// An Item is a tag, or a manifest that the child must have although it has no
// tag, or that is locked. Its name is the tag or, without a tag, the digest.
type Item struct {
	Tag    string        `json:"tag,omitempty"`
	Digest digest.Digest `json:"digest"`
	Part   string        `json:"part,omitempty"` // identifies the children that the child gets of an index; "" is all
	// Locks are bits: 1 forbids reading, 2 writing, 4 deleting, 8 listing. They are those of the tag or,
	// without a tag, of the manifest. A child of an earlier build ignores them.
	Locks int `json:"locks,omitempty"`
}

// PlanRequest asks for everything that the child needs for the wanted manifests.
type PlanRequest struct {
	Name       string `json:"name"`
	Capability int    `json:"capability,omitempty"` // since version 2
	// Locks says that the child enforces locks. The parent sends content that is locked against reading
	// only then. Absent: an earlier build.
	Locks bool   `json:"locks,omitempty"`
	Want  []Want `json:"want"` // at most 1,000
	// Have are manifests that the child has with everything below them, except referrers. The
	// parent need not send them. At most 10,000.
	Have []Want `json:"have,omitempty"`
}

// A Want names a manifest, or a blob.
type Want struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
}

// A PlanEntry is one line of a plan, which is a stream of JSON lines in dependency
// order: a manifest follows everything below it, and a referrer follows its
// subject. Exactly one field is set. The last line has End; a stream without it
// was cut.
type PlanEntry struct {
	Blob     *PlanBlob     `json:"blob,omitempty"`
	Manifest *PlanManifest `json:"manifest,omitempty"`
	Missing  *PlanMissing  `json:"missing,omitempty"`
	Complete *Want         `json:"complete,omitempty"` // a wanted manifest; everything for it was sent, referrers too
	End      *PlanEnd      `json:"end,omitempty"`
}

// PlanBlob is a config or a layer that a manifest further down the stream needs.
type PlanBlob struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Size       int64         `json:"size"`
	Data       []byte        `json:"data,omitempty"` // the content, if it is at most 16 KiB
	// FetchMethods are the methods that can fetch the content. A blob with Data has none.
	FetchMethods []FetchMethod `json:"fetchMethods,omitempty"`
}

// A FetchMethod is a method of fetching a blob. A child ignores the kinds that it does not know.
type FetchMethod struct {
	Kind string `json:"kind"`
}

// The kinds of a [FetchMethod]. Every child knows the first.
const (
	FetchWhole = "whole" // GET /v2/<repository>/blobs/<digest>, with ranges
	FetchBatch = "batch" // POST /gateway/v1/blobs, together with other small blobs
)

// BatchRequest asks for small blobs, at most 64. The answer has, for each of them
// in this order, a line with its [BatchEntry] and then its content.
type BatchRequest struct {
	Name string `json:"name"`
	Want []Want `json:"want"`
}

// A BatchEntry is the line before a blob of a batch.
type BatchEntry struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size,omitempty"`    // how many bytes follow the line
	Missing string        `json:"missing,omitempty"` // why no content follows
}

// PlanManifest is a manifest, byte for byte.
type PlanManifest struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	MediaType  string        `json:"mediaType"`
	Payload    []byte        `json:"payload"`
	// LeftOut are children of an index that the child does not get and must not hold for the index:
	// the child's platforms exclude them, or the parent's do.
	LeftOut []digest.Digest `json:"leftOut,omitempty"`
}

// PlanMissing is a wanted manifest, or something below it, that the parent does
// not have (any more) or that the child may not read.
type PlanMissing struct {
	Want
	Reason string `json:"reason"`
}

// PlanEnd is the last line of a plan.
type PlanEnd struct {
	Entries int `json:"entries"` // how many lines came before
}

// Desired is the desired state of a connected registry and its descendants: its
// subtree. Version changes with anything in it.
type Desired struct {
	Version             string              `json:"version"`
	Self                ConnectedRegistry   `json:"self"`
	ConnectedRegistries []ConnectedRegistry `json:"connectedRegistries,omitempty"` // the descendants
	// Tokens are the client tokens of the subtree, and the sync tokens of the descendants.
	Tokens    []Token    `json:"tokens,omitempty"`
	ScopeMaps []ScopeMap `json:"scopeMaps,omitempty"` // of those tokens, and of Self's sync token
	// OwnToken has the passwords of Self's sync token. It is absent unless the parent, and the root,
	// accept a [PasswordChange].
	OwnToken *OwnToken `json:"ownToken,omitempty"`
	// ParentEndpoint is another address of the parent, which the child tries once no other one
	// answers. "" says nothing about an earlier one.
	ParentEndpoint string `json:"parentEndpoint,omitempty"`
}

// A ConnectedRegistry is a connected registry's row as the root has it.
type ConnectedRegistry struct {
	Name       string    `json:"name"`
	Parent     string    `json:"parent,omitempty"`
	SyncToken  string    `json:"syncToken"`
	InstanceID string    `json:"instanceId,omitempty"` // of the instance that holds the activation; "" is none
	CreatedAt  time.Time `json:"createdAt"`
	Spec
}

// A Spec has the root's decisions for a connected registry. The database
// stores the same JSON.
type Spec struct {
	Mode         string   `json:"mode"` // ReadOnly or ReadWrite
	ClientTokens []string `json:"clientTokens,omitempty"`
	// Permissions are the actions on repositories of the sync token's scope map. A root reads the
	// scope map itself.
	Permissions []string `json:"permissions"`
	// Gaps are repositories and patterns that Permissions name and that an ancestor may not sync, so
	// that they never arrive. At most 20; the root sets them. A child of an earlier build ignores them.
	Gaps []string `json:"gaps,omitempty"`
	// Notifications are the patterns of the events that the connected registry sends up.
	Notifications []string `json:"notifications,omitempty"`
	Epoch         int64    `json:"epoch,omitempty"`  // counts deactivations: each ends earlier activations
	Resync        int64    `json:"resync,omitempty"` // counts the resyncs that operators asked for
	Verify        int64    `json:"verify,omitempty"` // counts the resyncs that also read all content again

	Join *JoinToken `json:"join,omitempty"` // the last one that an operator made; nil is none

	// Operators may change the following; api.Settings has a field with the same name for each of
	// these.
	Schedule   string   `json:"schedule"`             // cron, five fields, UTC; "* * * * *" is continuous
	SyncWindow string   `json:"syncWindow,omitempty"` // ISO 8601; "" when continuous
	MessageTTL string   `json:"messageTtl"`           // ISO 8601
	LogLevel   string   `json:"logLevel"`
	AuditLogs  bool     `json:"auditLogs,omitempty"` // its audit log is sent up
	GCEnabled  bool     `json:"gcEnabled"`
	GCSchedule string   `json:"gcSchedule"`
	TagFilters []string `json:"tagFilters,omitempty"` // only tags that match one of these; none is every tag
	KeepLast   int      `json:"keepLast,omitempty"`   // only the newest of them in each repository; 0 is all
	Platforms  []string `json:"platforms,omitempty"`  // only these of indexes, such as linux/arm64/v8; none is all
	// Bandwidth is RATE or HH:MM-HH:MM=RATE, in UTC, for all syncs together; the first that
	// applies counts.
	Bandwidth  []string `json:"bandwidth,omitempty"`
	ByteBudget string   `json:"byteBudget,omitempty"` // for its syncs, such as 2GiB/day or 20GiB/month; "" is no limit
	Priorities []string `json:"priorities,omitempty"` // such as ops/*=urgent; the first that applies counts
	// RotatePasswordEvery is how often the registry replaces its own password: ISO 8601, or off; "" is
	// the default.
	RotatePasswordEvery string `json:"rotatePasswordEvery,omitempty"`
	// Labels are for operators, such as group=baltic: at most 32, in the grammar of Kubernetes.
	Labels map[string]string `json:"labels,omitempty"`
}

// A Token is a token without its passwords: it has their hashes, with which
// nobody can log in.
type Token struct {
	Name      string     `json:"name"`
	ScopeMap  string     `json:"scopeMap"`
	Status    string     `json:"status"` // enabled or disabled
	Passwords []Password `json:"passwords,omitempty"`
	CreatedAt time.Time  `json:"createdAt"`
}

// A Password is one of a token's two password slots.
type Password struct {
	Name      string    `json:"name"` // password1 or password2
	Hash      string    `json:"hash"` // SHA-256 of the password, in hex
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt,omitzero"` // zero is never
	Rotated   bool      `json:"rotated,omitempty"`  // the connected registry has made it itself
}

// A ScopeMap is a named list of actions.
type ScopeMap struct {
	Name string `json:"name"`
	// Actions contain no exclusions, which a child of an earlier build does not know. It would refuse
	// the whole desired state.
	Actions []string `json:"actions"`
	// ActionsWithExclusions are all actions of a scope map that has exclusions; Actions are then only
	// those that no exclusion limits. Absent without exclusions.
	ActionsWithExclusions []string `json:"actionsWithExclusions,omitempty"`
	// AnonymousNetworks may pull without credentials, such as 10.0.0.0/8, from the connected registries
	// that have the scope map's token as a client token. A child of an earlier build ignores them.
	AnonymousNetworks []string `json:"anonymousNetworks,omitempty"`
}

// A Report is the status of a connected registry, and the last known status of
// its descendants.
type Report struct {
	Self        Status   `json:"self"`
	Descendants []Status `json:"descendants,omitempty"`
}

// A Status is the state of a connected registry at one time.
type Status struct {
	Name            string    `json:"name"`
	InstanceID      string    `json:"instanceId"`
	Epoch           int64     `json:"epoch,omitempty"` // of the activation; set by the parent that got the report
	Version         string    `json:"version"`
	LoginServer     string    `json:"loginServer,omitempty"` // the address for clients
	TLS             bool      `json:"tls,omitempty"`
	CertificateDir  string    `json:"certificateDir,omitempty"` // of that address's certificate
	Endpoint        string    `json:"endpoint,omitempty"`       // the address for children, if it is not LoginServer
	State           string    `json:"state"`                    // Online, Syncing or Unhealthy
	At              time.Time `json:"at"`                       // of this status, by the sender's clock
	LastSyncStart   time.Time `json:"lastSyncStart,omitzero"`
	LastSyncEnd     time.Time `json:"lastSyncEnd,omitzero"`
	LastSyncSuccess time.Time `json:"lastSyncSuccess,omitzero"`
	SyncTrigger     string    `json:"syncTrigger,omitempty"` // InitialSync, ...
	SyncState       string    `json:"syncState,omitempty"`   // NotActivated, Syncing, Failed, ...
	Resync          int64     `json:"resync,omitempty"`      // of [Spec.Resync], those that it has begun
	// Watermarks are, by feed, the sequence numbers up to which the registry knows the listings of
	// each ancestor. Items of those listings that it does not have are in OutOfSync, or at least counted.
	// Absent while it does not know.
	Watermarks     map[string]int64 `json:"watermarks,omitempty"`
	ItemsSynced    int              `json:"itemsSynced"`
	ItemsPending   int              `json:"itemsPending"`
	ItemsFailed    int              `json:"itemsFailed"`
	BytesTotal     int64            `json:"bytesTotal,omitempty"`     // of the layers that the sync needs
	BytesDone      int64            `json:"bytesDone,omitempty"`      // of these
	ItemsUnplanned int              `json:"itemsUnplanned,omitempty"` // items whose layers are not in BytesTotal yet
	BytesPerSecond int64            `json:"bytesPerSecond,omitempty"` // over the last seconds; 0 while no sync runs
	BudgetLeft     *int64           `json:"budgetLeft,omitempty"`     // of the byte budget; nil is no budget
	Paused         bool             `json:"paused,omitempty"`         // an operator paused syncs there
	// ItemsToSend are the items that clients changed at the connected registry and that its parent
	// does not have yet, and BytesToSend is how many bytes of layers that takes at most. Absent: 0.
	ItemsToSend int   `json:"itemsToSend,omitempty"`
	BytesToSend int64 `json:"bytesToSend,omitempty"`
	// NextSync is when the next window opens, or the next period of the byte budget begins. Zero
	// while syncs may run.
	NextSync time.Time `json:"nextSync,omitzero"`
	// WindowEnd is when an extra window closes: a registry's first window, or one that an operator
	// asked for. Zero if no such window is open.
	WindowEnd time.Time `json:"windowEnd,omitzero"`
	// OutOfSync are items that are not in sync, at most 50: failed ones first, then those in
	// flight.
	OutOfSync []OutOfSyncItem `json:"outOfSync,omitempty"`
	Details   []StatusDetail  `json:"details,omitempty"`
	// LastRefused is set by the parent: the last login with the name of the registry's sync token
	// that it refused.
	LastRefused *RefusedLogin `json:"lastRefused,omitempty"`
}

// A RefusedLogin is a login that a parent refused. Nobody has proved who sent it.
type RefusedLogin struct {
	At     time.Time `json:"at"`
	Sender string    `json:"sender"` // an address
	Reason string    `json:"reason"`
}

// An OutOfSyncItem is a tag or an untagged manifest that is not in sync.
type OutOfSyncItem struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`   // at the parent; "" if the item was removed there
	Here       digest.Digest `json:"here,omitempty"`     // at the connected registry; "" if it has none
	Error      string        `json:"error,omitempty"`    // of the last try, if it failed
	MatchedAt  time.Time     `json:"matchedAt,omitzero"` // when both digests were last the same
	// Unsent says that a client changed the item at the connected registry, and that its parent does
	// not have the change yet. If Here is "", the client removed it. Absent: no.
	Unsent bool `json:"unsent,omitempty"`

	// Of an image in flight, or one that a stopped sync had begun.
	BytesTotal     int64 `json:"bytesTotal,omitempty"`     // of the layers that were missing
	BytesDone      int64 `json:"bytesDone,omitempty"`      // of these
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // over the last seconds
	SecondsLeft    int64 `json:"secondsLeft,omitempty"`    // until it is complete, in its turn; 0 is not known
}

// ParentRefuses is the code of a status detail: the parent answers, and refuses
// the connected registry until a person changes something.
const ParentRefuses = "ParentRefuses"

// PermissionGap is the code of a status detail: an ancestor may not sync a part of what the connected
// registry may, so that it never arrives.
const PermissionGap = "PermissionGap"

// Damaged is the code of a status detail: content that images need is damaged and out of service.
const Damaged = "Damaged"

// Conflict is the code of a status detail: a tag was changed at the connected registry and at its
// parent. The parent's change holds, and a person must decide what becomes of the other one.
const Conflict = "Conflict"

// ChangesRefused is the code of a status detail: the parent refuses changes that clients made at the
// connected registry, or they cannot be sent.
const ChangesRefused = "ChangesRefused"

// ParentTooOld is the code of a status detail: the mode is ReadWrite, and the parent's build does not
// receive the changes of clients. They are kept at the connected registry until the parent is updated.
const ParentTooOld = "ParentTooOld"

// A StatusDetail is one thing that is wrong.
type StatusDetail struct {
	Type        string    `json:"type"` // Disk, Sync, ...
	Code        string    `json:"code"` // DiskError, ...
	Description string    `json:"description"`
	Timestamp   time.Time `json:"timestamp"`
}

// A Problem is the body of an answer of 400 and above (RFC 9457,
// application/problem+json) with a code for programs.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`           // such as NOT_ACTIVATED or UNAUTHORIZED; docs/protocol.md lists all
	Hint   string `json:"hint,omitempty"` // the remedy
}

// InlineLimit is the size in bytes up to which a blob comes within the plan.
const InlineLimit = 16 << 10

// Registry returns the connected registry that a request is for.
func (r ActivateRequest) Registry() string { return r.Name }
func (r PollRequest) Registry() string     { return r.Name }
func (r PlanRequest) Registry() string     { return r.Name }
func (r BatchRequest) Registry() string    { return r.Name }
func (r JoinRequest) Registry() string     { return r.Name }
