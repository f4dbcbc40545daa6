package api

import "time"

// The states of a [SyncItem]. The first and the last are also those of a
// [Verdict], beside [NotInSync].
const (
	InSync   = "InSync"
	Pending  = "Pending"
	Failed   = "Failed"
	ToRemove = "ToRemove"
	Unknown  = "Unknown"
)

// NotInSync is the status of a [Verdict] for which something is known to differ.
const NotInSync = "NotInSync"

// A Verdict says whether a connected registry is in sync with its parent, as far
// as that is known.
type Verdict struct {
	InSync   bool       `json:"inSync" doc:"Whether status is InSync."`
	Status   string     `json:"status" enum:"InSync,NotInSync,Unknown" doc:"Unknown is of a site that should have been in touch with its parent since, or cannot be."`
	AsOfTime *time.Time `json:"asOfTime" doc:"As of when status is so; of Unknown, since when nothing is known, which is its creation if it never reported. Null is never."`
	Reason   *string    `json:"reason" doc:"Why it is not in sync, or not known; null where it is."`
}

// A SyncStatus is how a connected registry's sync goes.
type SyncStatus struct {
	Verdict
	State        string     `json:"state" enum:"Online,Syncing,Unhealthy"`
	Time         time.Time  `json:"time" doc:"When this was so."`
	Paused       bool       `json:"paused" doc:"Whether somebody at the site stopped syncs until further notice."`
	NextSyncTime *time.Time `json:"nextSyncTime" doc:"When the next sync window opens; null while one is open."`
	ItemsSynced  int        `json:"itemsSynced"`
	ItemsPending int        `json:"itemsPending"`
	ItemsFailed  int        `json:"itemsFailed"`
	ByteProgress
	Result  *RegistrySyncResult `json:"result"`
	Details []StatusDetail      `json:"details" nullable:"false"`
}

// A SyncItem is a tag of the parent, or a manifest that no tag leads to, and
// how far it is at the site.
type SyncItem struct {
	Repository    string     `json:"repository"`
	Tag           *string    `json:"tag" doc:"Null for a manifest without one."`
	State         string     `json:"state" enum:"InSync,Pending,Failed,ToRemove,Unknown" doc:"Unknown is of a site that has more open than it says, or of which nothing is known just now: digest and lastMatchTime are then what was known last."`
	Digest        *string    `json:"digest" doc:"What the site serves; null is nothing."`
	ParentDigest  *string    `json:"parentDigest" doc:"What the parent has; null is nothing any more."`
	LastMatchTime *time.Time `json:"lastMatchTime" doc:"When both were last known to be the same."`
	Error         *string    `json:"error" doc:"Of the last try, where that failed."`

	BytesTotal     *int64 `json:"bytesTotal" doc:"Of the layers that were missing when it was planned; null where a sync has not come to it yet, or it is in sync."`
	BytesDone      *int64 `json:"bytesDone" doc:"Of these, what is here."`
	BytesPerSecond *int64 `json:"bytesPerSecond" doc:"Over the last seconds."`
	EtaSeconds     *int64 `json:"etaSeconds" doc:"How long it takes until it is here, after what comes before it; null where nobody knows."`

	Key string `json:"-"` // its place in the repository's listing: the tag, or the digest
}

// A DescendantSync is what an ancestor knows of a connected registry's sync, also of one
// that is offline: its verdict, and what the site last said.
type DescendantSync struct {
	Verdict
	Name            string      `json:"name"`
	ConnectionState string      `json:"connectionState" enum:"Online,Offline,Syncing,Unhealthy"`
	Activation      Activation  `json:"activation" doc:"Inactive is of a site that no instance holds: what is here was said by the last that did."`
	HeardTime       *time.Time  `json:"heardTime" doc:"When this was heard; null is never."`
	AgeSeconds      *int64      `json:"ageSeconds" doc:"How long ago that is."`
	Sync            *SyncStatus `json:"sync"`

	LastRefusedLogin *RefusedLogin `json:"lastRefusedLogin"`
}

// A RefusedLogin is the last login that was refused at the parent of a connected
// registry, with the name of its sync token.
type RefusedLogin struct {
	Time   time.Time `json:"time"`
	Source string    `json:"source" doc:"The address that it came from, whoever that was."`
	Reason string    `json:"reason"`
}

// An InstanceStatus is what an instance says of itself.
type InstanceStatus struct {
	Role       string      `json:"role" enum:"root,connected"`
	Name       string      `json:"name,omitempty" doc:"Of the connected registry."`
	Version    string      `json:"version" doc:"Of the program."`
	InstanceID string      `json:"instanceId"`
	Sync       *SyncStatus `json:"sync,omitempty"`
}

// A SettingsPost asks for what an instance needs to become a connected registry.
type SettingsPost struct {
	ParentProtocol   string `json:"parentProtocol" enum:"http,https" doc:"How the instance reaches its parent."`
	GeneratePassword int    `json:"generatePassword,omitempty" enum:"1,2" doc:"Make this password of the sync token, in place of the one there is."`
}

// InstanceSettings are what an instance needs to become a connected
// registry, under the reference's names.
type InstanceSettings struct {
	CertificateVolume string `json:"ACR_REGISTRY_CERTIFICATE_VOLUME"`
	ConnectionString  string `json:"ACR_REGISTRY_CONNECTION_STRING"`
	DataVolume        string `json:"ACR_REGISTRY_DATA_VOLUME"`
	LoginServer       string `json:"ACR_REGISTRY_LOGIN_SERVER"`
	SyncTokenPassword string `json:"SYNC_TOKEN_PASSWORD"`
	SyncTokenUser     string `json:"SYNC_TOKEN_USER"`

	WriteResult
}
