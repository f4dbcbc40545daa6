package api

import "time"

// The states of a [SyncItem]. InSync and Unknown are also states of a [Verdict], which can be
// [NotInSync], too.
const (
	InSync   = "InSync"
	Pending  = "Pending"
	Failed   = "Failed"
	ToRemove = "ToRemove"
	ToSend   = "ToSend" // a client changed it at the site, and the parent does not have that yet
	Unknown  = "Unknown"
)

// NotInSync is the status of a [Verdict] if a difference is known.
const NotInSync = "NotInSync"

// A Verdict says whether a connected registry is in sync with its parent, and as of when.
type Verdict struct {
	InSync   bool       `json:"inSync" doc:"Whether status is InSync."`
	Status   string     `json:"status" enum:"InSync,NotInSync,Unknown"`
	AsOfTime *time.Time `json:"asOfTime"`
	Reason   *string    `json:"reason" doc:"Why it is not in sync, or not known; null if it is in sync."`
}

// A SyncStatus is the state of a connected registry's sync.
type SyncStatus struct {
	Verdict
	State        string     `json:"state" enum:"Online,Syncing,Unhealthy"`
	Time         time.Time  `json:"time" doc:"When this was so."`
	Paused       bool       `json:"paused" doc:"Whether syncs are paused at the site."`
	NextSyncTime *time.Time `json:"nextSyncTime" doc:"When the next sync window opens; null while one is open."`
	ItemsSynced  int        `json:"itemsSynced"`
	ItemsPending int        `json:"itemsPending"`
	ItemsFailed  int        `json:"itemsFailed"`
	ItemsToSend  int        `json:"itemsToSend" doc:"Items that clients changed, and that the parent does not have."`
	BytesToSend  int64      `json:"bytesToSend" doc:"Bytes of layers that must be sent for them, at most."`
	ByteProgress
	Result  *RegistrySyncResult `json:"result"`
	Details []StatusDetail      `json:"details" nullable:"false"`
}

// A SyncItem is a tag of the parent, or a manifest without a tag, with its state at the site.
type SyncItem struct {
	Repository    string     `json:"repository"`
	Tag           *string    `json:"tag" doc:"Null for a manifest without a tag."`
	State         string     `json:"state" enum:"InSync,Pending,Failed,ToRemove,ToSend,Unknown"`
	Digest        *string    `json:"digest" doc:"The digest that the site serves; null if none."`
	ParentDigest  *string    `json:"parentDigest" doc:"The digest at the parent; null if it was removed."`
	LastMatchTime *time.Time `json:"lastMatchTime" doc:"When both digests were last known to be equal."`
	Error         *string    `json:"error" doc:"The error of the last try; null if it did not fail."`

	BytesTotal     *int64 `json:"bytesTotal" doc:"The size of the layers that were missing; null if not planned."`
	BytesDone      *int64 `json:"bytesDone" doc:"The part of bytesTotal that is stored here."`
	BytesPerSecond *int64 `json:"bytesPerSecond" doc:"Over the last seconds."`
	// EtaSeconds includes the time for the items before this one.
	EtaSeconds *int64 `json:"etaSeconds" doc:"The time until it is complete; null if not known."`

	Key string `json:"-"` // its name in the repository's listing: the tag or the digest
}

// A SyncResolvePost says what a person decided about an item that clients changed at a site.
type SyncResolvePost struct {
	Repository string `json:"repository" minLength:"1" maxLength:"255"`
	Item       string `json:"item" minLength:"1" maxLength:"255" doc:"The tag, or the digest of a manifest without."`
	// Discard gives up a change that the parent does not have yet. The item becomes as it is there.
	Discard bool `json:"discard,omitempty" doc:"Give up the change that is not sent yet."`
}

// SyncResolved is what a [SyncResolvePost] has ended.
type SyncResolved struct {
	Conflicts int `json:"conflicts" doc:"Conflicts that are over."`
	Discarded int `json:"discarded" doc:"Changes that were given up."`
}

// A DescendantSync is what an ancestor knows of a connected registry's sync: the verdict and the
// last report, also while the connected registry is offline.
type DescendantSync struct {
	Verdict
	Name            string      `json:"name"`
	ConnectionState string      `json:"connectionState" enum:"Online,Offline,Syncing,Unhealthy"`
	Activation      Activation  `json:"activation" doc:"Inactive if no instance is activated."`
	HeardTime       *time.Time  `json:"heardTime" doc:"When the last report arrived; null if none did."`
	AgeSeconds      *int64      `json:"ageSeconds" doc:"The age of the last report."`
	Sync            *SyncStatus `json:"sync"`

	LastRefusedLogin *RefusedLogin `json:"lastRefusedLogin"`
}

// A RefusedLogin is the last login that the parent of a connected registry refused to somebody with
// the name of its sync token.
type RefusedLogin struct {
	Time   time.Time `json:"time"`
	Sender string    `json:"sender" doc:"The address that the login came from."`
	Reason string    `json:"reason"`
}

// An InstanceStatus is the state of an instance.
type InstanceStatus struct {
	Role       string `json:"role" enum:"root,connected"`
	Name       string `json:"name,omitempty" doc:"The name of the connected registry."`
	Version    string `json:"version" doc:"The version of the program."`
	InstanceID string `json:"instanceId"`
	// CAFingerprint is there if the instance has a CA of its own.
	CAFingerprint string      `json:"caFingerprint,omitempty" doc:"SHA-256 of the CA at /ca.crt."`
	Sync          *SyncStatus `json:"sync,omitempty"`

	Parent *InstanceParent `json:"parent,omitempty" doc:"Of a connected registry."`
}

// An InstanceParent is the parent of a connected registry, and when it syncs from there.
type InstanceParent struct {
	URL        string `json:"url" doc:"The address from the connection string."`
	Schedule   string `json:"schedule,omitempty" doc:"Cron, five fields, UTC."`
	SyncWindow string `json:"syncWindow,omitempty" doc:"ISO 8601; absent when continuous."`
}

// A SettingsPost requests the settings that an instance needs to become a connected registry.
type SettingsPost struct {
	ParentProtocol string `json:"parentProtocol" enum:"http,https" doc:"How the instance reaches its parent."`
	// GeneratePassword replaces the password of the sync token in this slot.
	GeneratePassword int `json:"generatePassword,omitempty" enum:"1,2" doc:"Generate this password."`
	// JoinFor makes a join token in the place of a password.
	JoinFor string `json:"joinFor,omitempty" maxLength:"32" doc:"How long the join token is valid: PT1M to P30D."`
}

// The states of given credentials.
const (
	CredentialsAccepted = "Accepted"
	CredentialsRefused  = "Refused"
	CredentialsUntried  = "Untried" // the parent has not answered yet
)

// A CredentialsPut gives a running connected registry other credentials for its parent.
type CredentialsPut struct {
	// Credentials are a connection string, or only a password of the sync token.
	Credentials string `json:"credentials" minLength:"1" maxLength:"4096" doc:"A connection string, or a password."`
}

// A CredentialsResult says what the parent answered to given credentials.
type CredentialsResult struct {
	State string `json:"state" enum:"Accepted,Refused,Untried"`
}

// InstanceSettings are the settings that an instance needs to become a connected registry, under
// the reference's names.
type InstanceSettings struct {
	CertificateVolume string `json:"ACR_REGISTRY_CERTIFICATE_VOLUME"`
	ConnectionString  string `json:"ACR_REGISTRY_CONNECTION_STRING"`
	DataVolume        string `json:"ACR_REGISTRY_DATA_VOLUME"`
	LoginServer       string `json:"ACR_REGISTRY_LOGIN_SERVER"`
	SyncTokenPassword string `json:"SYNC_TOKEN_PASSWORD"`
	SyncTokenUser     string `json:"SYNC_TOKEN_USER"`

	WriteResult
}
