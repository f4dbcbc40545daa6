// Package wire is the types of the gateway protocol, and nothing else: what a
// connected registry and its parent say to each other. docs/protocol.md
// describes it.
package wire

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Capability is the version of the protocol that this program speaks. Both
// sides send theirs with every request; each then keeps to the lesser.
//
//   - 1: activate, poll, plan, blobs; the ways "whole" and "batch".
const Capability = 1

// The paths of the protocol, below the gateway's address.
const (
	PathActivate = "/gateway/v1/activate"
	PathPoll     = "/gateway/v1/poll"
	PathPlan     = "/gateway/v1/plan"
	PathBlobs    = "/gateway/v1/blobs"
)

// ActivateRequest binds a running instance to a connected registry. The
// child sends it once in its life, and again whenever its parent asks (409
// answers with [Problem.Code] "ALREADY_ACTIVATED" or "NOT_ACTIVATED").
type ActivateRequest struct {
	Name       string `json:"name"`       // the connected registry's
	InstanceID string `json:"instanceId"` // made at first start, kept in the data directory
	Version    string `json:"version"`    // of the child's program
	Capability int    `json:"capability"`
}

// ActivateResponse tells the child what it is to be.
type ActivateResponse struct {
	Capability int      `json:"capability"`
	Desired    *Desired `json:"desired"`
}

// PollRequest brings the child's report and asks for the listings of the
// repositories that changed.
type PollRequest struct {
	Name       string `json:"name"`
	InstanceID string `json:"instanceId"`
	Capability int    `json:"capability"`

	// Feed, Subscription and Cursor are the child's place: it has recorded the
	// listings, for Subscription, of the repositories up to Cursor in Feed. All are
	// absent where it has none, or wants every repository listed anew.
	Feed         string `json:"feed,omitempty"`
	Subscription string `json:"subscription,omitempty"`
	Cursor       int64  `json:"cursor,omitempty"`
	// Since is the Cursor at which the parent last had no more to tell: only up
	// to there everything is recorded. nil is Cursor itself.
	Since *int64 `json:"since,omitempty"`
	// Pass is the feed's head when the listing of every repository began that has
	// not come to its end; listings then are complete. 0 is none.
	Pass int64 `json:"pass,omitempty"`

	Page           *Page   `json:"page,omitempty"`           // a complete listing, or the rest of one, to be sent first
	DesiredVersion string  `json:"desiredVersion,omitempty"` // of the desired state that the child has
	Report         *Report `json:"report,omitempty"`         // nil when nothing changed since the last that was answered
	Suspects       []Want  `json:"suspects,omitempty"`       // blobs whose content came and was not what the digest says: the parent reads them again; at most 16
	WaitSeconds    int     `json:"waitSeconds,omitempty"`    // how long the parent may hold the request until something changes; at most 60
}

// A Page is a place in a complete listing.
type Page struct {
	Repository string `json:"repository"`
	Seq        int64  `json:"seq,omitempty"`   // of the listing that the child has a part of; 0 is none
	After      string `json:"after,omitempty"` // the name of the last item of that part
}

// PollResponse has the listings of the repositories that changed since the
// request's cursor.
type PollResponse struct {
	Capability   int    `json:"capability"`
	Feed         string `json:"feed"`
	Subscription string `json:"subscription"`
	Cursor       int64  `json:"cursor"`            // the child's next one
	Restart      bool   `json:"restart,omitempty"` // the request's cursor was of no use: all repositories are listed, from this answer on
	Head         int64  `json:"head,omitempty"`    // with Restart: the feed's head, or 1 where that is 0
	More         bool   `json:"more,omitempty"`    // there are other listings: poll again at once

	Listings []Listing `json:"listings,omitempty"` // by the sequence number of their repositories
	Desired  *Desired  `json:"desired,omitempty"`  // when it is not the version that the child has

	// SpreadSeconds is over how long the children of this parent spread what they
	// fetch after a change: each begins at a time of its own within that.
	SpreadSeconds int `json:"spreadSeconds,omitempty"`

	// Watermarks say, by feed, up to which sequence number of each of its own
	// ancestors the parent has everything: the child knows of as much once it
	// has recorded everything up to Cursor.
	Watermarks map[string]int64 `json:"watermarks,omitempty"`
	// Lacking are items that the watermarks cover and that the parent does not have
	// all the same: they fail for good. It has no watermark that more than 50 items
	// would be missing from.
	Lacking []OpenItem `json:"lacking,omitempty"`
}

// A Listing is the items of one repository that the child's subscription
// selects, at one sequence number. It is complete; or a page of a complete
// one; or short: what changed in it since the request's cursor.
type Listing struct {
	Repository string `json:"repository"`
	Seq        int64  `json:"seq"`             // of the repository's last change
	Items      []Item `json:"items,omitempty"` // by name; in a short listing those that were set

	After string `json:"after,omitempty"` // of a page: the name of the last item of the page before
	More  bool   `json:"more,omitempty"`  // of a page: others follow, when they are asked for

	Short bool     `json:"short,omitempty"`
	Gone  []string `json:"gone,omitempty"`  // of a short listing: the names of items that are no longer in it
	Count int      `json:"count,omitempty"` // of a short listing: how many items the complete one has
	Sum   string   `json:"sum,omitempty"`   // of a short listing: the checksum of all items of the complete one
}

// An Item is a tag, or a manifest that the child must have although no tag
// leads to it. Its name is the tag or, without one, the digest.
type Item struct {
	Tag    string        `json:"tag,omitempty"`
	Digest digest.Digest `json:"digest"`
	Part   string        `json:"part,omitempty"` // of an index of which the child gets only a part: what tells that part from others
}

// PlanRequest asks for what is needed to have the wanted manifests.
type PlanRequest struct {
	Name string `json:"name"`
	Want []Want `json:"want"` // at most 1,000
	// Have are manifests that the child has complete, referrers aside, and
	// that the parent may leave out with all below them. At most 10,000.
	Have []Want `json:"have,omitempty"`
}

// A Want is one manifest to have.
type Want struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
}

// A PlanEntry is one line of the answer to a plan, which is a stream of JSON
// lines in dependency order: a manifest follows everything below it, a
// referrer follows its subject. Exactly one of the fields is set. The stream
// ends with an End; one that ends without it was cut.
type PlanEntry struct {
	Blob     *PlanBlob     `json:"blob,omitempty"`
	Manifest *PlanManifest `json:"manifest,omitempty"`
	Missing  *PlanMissing  `json:"missing,omitempty"`
	Told     *Want         `json:"told,omitempty"` // a wanted manifest of which everything was said, its referrers included
	End      *PlanEnd      `json:"end,omitempty"`
}

// PlanBlob is a config or a layer that a later manifest of the stream needs.
type PlanBlob struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Size       int64         `json:"size"`
	Data       []byte        `json:"data,omitempty"` // the whole content, when it is at most 16 KiB
	Ways       []Way         `json:"ways,omitempty"` // how else it can come
}

// A Way is one way in which a blob can come. A child ignores those it does not know.
type Way struct {
	Kind string `json:"kind"`
}

// The ways. Every child knows the first.
const (
	WayWhole = "whole" // GET /v2/<repository>/blobs/<digest>, with ranges
	WayBatch = "batch" // POST /gateway/v1/blobs, with others that are small
)

// BatchRequest asks for several small blobs in one answer: for each of them,
// in this order, a line with its [BatchEntry], and then its content. At most 64.
type BatchRequest struct {
	Name string `json:"name"`
	Want []Want `json:"want"`
}

// A BatchEntry is the line before a blob of a batch.
type BatchEntry struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size,omitempty"`    // how many bytes follow the line
	Missing string        `json:"missing,omitempty"` // why none do
}

// PlanManifest is a manifest, byte for byte.
type PlanManifest struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	MediaType  string        `json:"mediaType"`
	Payload    []byte        `json:"payload"`
	// LeftOut are children of an index that do not come, and that the child
	// is not to hold for it: its platforms leave them out, or the parent does
	// not hold them, for its own do.
	LeftOut []digest.Digest `json:"leftOut,omitempty"`
}

// PlanMissing is a wanted manifest that the parent does not have (any more)
// or whose reading the child is not allowed.
type PlanMissing struct {
	Want
	Reason string `json:"reason"`
}

// PlanEnd closes the stream.
type PlanEnd struct {
	Entries int `json:"entries"` // how many came before
}

// Desired is what the root decided for a connected registry and everything
// below it: its subtree. Version changes whenever anything in it does.
type Desired struct {
	Version             string              `json:"version"`
	Self                ConnectedRegistry   `json:"self"`
	ConnectedRegistries []ConnectedRegistry `json:"connectedRegistries,omitempty"` // the descendants
	Tokens              []Token             `json:"tokens,omitempty"`              // client tokens of the subtree, sync tokens of the descendants
	ScopeMaps           []ScopeMap          `json:"scopeMaps,omitempty"`           // of those tokens, and of Self's sync token
}

// A ConnectedRegistry is a connected registry's row as the root has it.
type ConnectedRegistry struct {
	Name       string    `json:"name"`
	Parent     string    `json:"parent,omitempty"`
	SyncToken  string    `json:"syncToken"`
	InstanceID string    `json:"instanceId,omitempty"` // who holds the activation; "" is nobody
	CreatedAt  time.Time `json:"createdAt"`
	Spec
}

// A Spec is what the root decided for a connected registry. Rows keep it as it
// goes over the wire.
type Spec struct {
	Mode         string   `json:"mode"` // ReadOnly or ReadWrite
	ClientTokens []string `json:"clientTokens,omitempty"`
	Permissions  []string `json:"permissions"`      // the actions of the sync scope map, repositories' only; a root reads the scope map itself
	Epoch        int64    `json:"epoch,omitempty"`  // counts deactivations: an activation of an earlier one is over, at every level
	Resync       int64    `json:"resync,omitempty"` // counts how often an operator asked for every repository to be listed anew
	Verify       int64    `json:"verify,omitempty"` // counts how often that was to read all content again, too

	// What an operator may change; api.Settings has a field of each name.
	Schedule   string   `json:"schedule"`             // cron, five fields, UTC; "* * * * *" is continuous
	SyncWindow string   `json:"syncWindow,omitempty"` // ISO 8601; "" when continuous
	MessageTTL string   `json:"messageTtl"`           // ISO 8601
	LogLevel   string   `json:"logLevel"`
	GCEnabled  bool     `json:"gcEnabled"`
	GCSchedule string   `json:"gcSchedule"`
	TagFilters []string `json:"tagFilters,omitempty"` // only tags that one of these matches; none is every tag
	KeepLast   int      `json:"keepLast,omitempty"`   // only this many of them in each repository, the newest; 0 is all
	Platforms  []string `json:"platforms,omitempty"`  // of indexes only what is for these, as linux/arm64/v8; none is all
	Bandwidth  []string `json:"bandwidth,omitempty"`  // what its syncs may take of the link, as RATE and HH:MM-HH:MM=RATE, in UTC; the first that fits counts
	ByteBudget string   `json:"byteBudget,omitempty"` // how much its syncs may fetch, as 2GiB/day or 20GiB/month; "" is no limit
	Priorities []string `json:"priorities,omitempty"` // which repositories come first, as ops/*=urgent; the first that fits counts
}

// A Token is a token without anything that could be used to log in: its
// passwords are hashes.
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
}

// A ScopeMap is a named list of actions.
type ScopeMap struct {
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// A Report is what a connected registry says of itself and, for those below
// it, of what they last said.
type Report struct {
	Self        Status   `json:"self"`
	Descendants []Status `json:"descendants,omitempty"`
}

// A Status is a connected registry as it last was.
type Status struct {
	Name            string    `json:"name"`
	InstanceID      string    `json:"instanceId"`
	Epoch           int64     `json:"epoch,omitempty"` // of the activation; set by the parent that heard the report
	Version         string    `json:"version"`
	LoginServer     string    `json:"loginServer,omitempty"` // the address it serves at
	TLS             bool      `json:"tls,omitempty"`
	State           string    `json:"state"` // Online, Syncing or Unhealthy
	At              time.Time `json:"at"`    // when this was so, by the clock of the sender of the report
	LastSyncStart   time.Time `json:"lastSyncStart,omitzero"`
	LastSyncEnd     time.Time `json:"lastSyncEnd,omitzero"`
	LastSyncSuccess time.Time `json:"lastSyncSuccess,omitzero"`
	SyncTrigger     string    `json:"syncTrigger,omitempty"` // InitialSync, ...
	SyncState       string    `json:"syncState,omitempty"`   // NotActivated, Syncing, Failed, Succeeded, Pending
	// Watermarks say, by feed, up to which sequence number of each ancestor the
	// registry knows of everything that is for it: what of that it does not have
	// it lists in Open, or counts. Absent while it does not know.
	Watermarks     map[string]int64 `json:"watermarks,omitempty"`
	ItemsSynced    int              `json:"itemsSynced"`
	ItemsPending   int              `json:"itemsPending"`
	ItemsFailed    int              `json:"itemsFailed"`
	BytesTotal     int64            `json:"bytesTotal,omitempty"`     // of the layers that the running sync, or the one that was stopped, has to have
	BytesDone      int64            `json:"bytesDone,omitempty"`      // of these
	ItemsUnplanned int              `json:"itemsUnplanned,omitempty"` // items whose layers BytesTotal does not have: nobody knows their sizes yet
	BytesPerSecond int64            `json:"bytesPerSecond,omitempty"` // over the last seconds; 0 while no sync runs
	Paused         bool             `json:"paused,omitempty"`         // somebody at the site stopped syncs until further notice
	NextSync       time.Time        `json:"nextSync,omitzero"`        // when the next window opens, or the next budget begins; zero while syncs may run
	// WindowEnd is when the window that is open closes, if no tick of the schedule opened it: the
	// first one of a registry, or one that an operator asked for. Zero if none is open.
	WindowEnd time.Time      `json:"windowEnd,omitzero"`
	Open      []OpenItem     `json:"open,omitempty"` // what is not in sync, those that failed first, then those that are being fetched; at most 50
	Details   []StatusDetail `json:"details,omitempty"`
	// LastRefused is set by its parent: the last time that it refused somebody who
	// used the name of the registry's sync token.
	LastRefused *RefusedLogin `json:"lastRefused,omitempty"`
}

// A RefusedLogin is one that a parent refused. Who it was is not known.
type RefusedLogin struct {
	At   time.Time `json:"at"`
	From string    `json:"from"` // an address
	Why  string    `json:"why"`
}

// An OpenItem is a tag, or a manifest that no tag leads to, that is not in
// sync.
type OpenItem struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`   // what is to be there; "" where it is to go
	Here       digest.Digest `json:"here,omitempty"`     // what is served until then
	Error      string        `json:"error,omitempty"`    // of the last try, where that failed
	MatchedAt  time.Time     `json:"matchedAt,omitzero"` // when both were last the same

	// Of an image that a sync fetches, or that it left when it was stopped.
	BytesTotal     int64 `json:"bytesTotal,omitempty"`     // of the layers that were missing
	BytesDone      int64 `json:"bytesDone,omitempty"`      // of these
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // over the last seconds
	SecondsLeft    int64 `json:"secondsLeft,omitempty"`    // until it is here, after what comes before it; 0 where nobody knows
}

// ParentRefuses is the code of a status detail: the parent was reached, and
// refuses the connected registry until somebody changes something.
const ParentRefuses = "ParentRefuses"

// Damaged is the code of a status detail: content that images need is damaged and out of service.
const Damaged = "Damaged"

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
	Code   string `json:"code"`           // ALREADY_ACTIVATED, NOT_ACTIVATED, UNAUTHORIZED, DENIED, UNKNOWN_CONNECTED_REGISTRY, INVALID
	Hint   string `json:"hint,omitempty"` // what to do about it
}

// InlineLimit is the size in bytes up to which a blob comes within the plan.
const InlineLimit = 16 << 10

// Registry returns the connected registry that a request is for.
func (r ActivateRequest) Registry() string { return r.Name }
func (r PollRequest) Registry() string     { return r.Name }
func (r PlanRequest) Registry() string     { return r.Name }
func (r BatchRequest) Registry() string    { return r.Name }
