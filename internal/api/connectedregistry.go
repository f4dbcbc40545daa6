package api

import "time"

// The modes of a connected registry.
const (
	ReadOnly  = "ReadOnly"
	ReadWrite = "ReadWrite"
)

// The states of a connected registry, as seen from above.
const (
	Online    = "Online"
	Offline   = "Offline"
	Syncing   = "Syncing"
	Unhealthy = "Unhealthy"
)

// A ConnectedRegistry is a connected registry as the root knows it.
type ConnectedRegistry struct {
	ID                 string              `json:"id"`
	Name               string              `json:"name"`
	Mode               string              `json:"mode" enum:"ReadOnly,ReadWrite"`
	Version            *string             `json:"version"`
	ConnectionState    string              `json:"connectionState" enum:"Online,Offline,Syncing,Unhealthy"`
	LastActivityTime   *time.Time          `json:"lastActivityTime"`
	Activation         Activation          `json:"activation"`
	Sync               Verdict             `json:"sync"`
	Parent             Parent              `json:"parent"`
	ClientTokenIDs     []string            `json:"clientTokenIds"`
	TagFilters         []string            `json:"tagFilters"` // empty is every tag
	KeepLast           *int                `json:"keepLast"`   // null is all
	Platforms          []string            `json:"platforms"`  // empty is every platform
	LoginServer        *LoginServer        `json:"loginServer"`
	Logging            Logging             `json:"logging"`
	StatusDetails      []StatusDetail      `json:"statusDetails"`
	NotificationsList  []string            `json:"notificationsList"`
	GarbageCollection  GarbageCollection   `json:"garbageCollection"`
	RegistrySyncResult *RegistrySyncResult `json:"registrySyncResult"`
	LastRefusedLogin   *RefusedLogin       `json:"lastRefusedLogin"`
	ProvisioningState  string              `json:"provisioningState"`

	Tagged
}

// Activation says whether an instance holds the connected registry.
type Activation struct {
	Status string `json:"status" enum:"Active,Inactive"`
}

// Parent is where a connected registry syncs from, and how.
type Parent struct {
	ID             *string        `json:"id"` // null is the root
	SyncProperties SyncProperties `json:"syncProperties"`
}

// SyncProperties are a connected registry's sync settings.
type SyncProperties struct {
	TokenID         string     `json:"tokenId"`
	Schedule        string     `json:"schedule"`   // cron, five fields, UTC
	SyncWindow      *string    `json:"syncWindow"` // ISO 8601; null when continuous
	MessageTTL      string     `json:"messageTtl"` // ISO 8601
	LastSyncTime    *time.Time `json:"lastSyncTime" doc:"When a sync last succeeded; registrySyncResult says when one was last tried."`
	Bandwidth       []string   `json:"bandwidth"`  // empty is no limit
	ByteBudget      *string    `json:"byteBudget"` // null is no limit
	Priorities      []string   `json:"priorities"` // empty is none
	GatewayEndpoint string     `json:"gatewayEndpoint"`
}

// LoginServer is where a connected registry serves its clients.
type LoginServer struct {
	Host string `json:"host"`
	TLS  TLS    `json:"tls"`
}

// TLS says whether a login server speaks TLS.
type TLS struct {
	Status string `json:"status" enum:"Enabled,Disabled"`
}

// Logging is what a connected registry logs.
type Logging struct {
	LogLevel       string `json:"logLevel" enum:"Debug,Information,Warning,Error,None"`
	AuditLogStatus string `json:"auditLogStatus" enum:"Enabled,Disabled"`
}

// A StatusDetail is one thing that is wrong with a connected registry.
type StatusDetail struct {
	Type          string    `json:"type"`
	Code          string    `json:"code"`
	Description   string    `json:"description"`
	Timestamp     time.Time `json:"timestamp"`
	CorrelationID string    `json:"correlationId"`
}

// GarbageCollection is when a connected registry removes what nothing refers to.
type GarbageCollection struct {
	Enabled  bool   `json:"enabled"`
	Schedule string `json:"schedule"` // cron, five fields, UTC
}

// RegistrySyncResult sums up a connected registry's last sync.
type RegistrySyncResult struct {
	SyncTrigger               string     `json:"syncTrigger"`
	SyncState                 string     `json:"syncState"`
	LastSyncStartTime         *time.Time `json:"lastSyncStartTime"`
	LastSyncEndTime           *time.Time `json:"lastSyncEndTime"`
	LastSuccessfulSyncEndTime *time.Time `json:"lastSuccessfulSyncEndTime"`
}

// A RegistryPut is a connected registry as it is to be. Exactly one of
// Repositories and SyncToken is given.
type RegistryPut struct {
	Mode          string   `json:"mode,omitempty" maxLength:"32" doc:"ReadOnly, which is the default. ReadWrite is not there yet."`
	Parent        string   `json:"parent,omitempty" maxLength:"100" doc:"The connected registry to be below; without it, the root."`
	Repositories  []string `json:"repositories,omitempty" maxItems:"500" doc:"What to sync: NAME, PREFIX/* or *."`
	SyncToken     string   `json:"syncToken,omitempty" maxLength:"100" doc:"A token whose scope map says what to sync."`
	ClientTokens  []string `json:"clientTokens,omitempty" maxItems:"1000"`
	Notifications []string `json:"notifications,omitempty" maxItems:"100"`
	Settings
}

// A RegistryPatch is what is to change of a connected registry.
type RegistryPatch struct {
	AddClientTokens     []string `json:"addClientTokens,omitempty" maxItems:"1000"`
	RemoveClientTokens  []string `json:"removeClientTokens,omitempty" maxItems:"1000"`
	AddNotifications    []string `json:"addNotifications,omitempty" maxItems:"100"`
	RemoveNotifications []string `json:"removeNotifications,omitempty" maxItems:"100"`
	Settings
}

// Settings are what of a connected registry can be changed later, as a merge
// patch: what is nil stays as it is, and is not in the JSON. wire.Spec has the
// values, under the same names.
type Settings struct {
	Schedule   *string `json:"syncSchedule,omitempty" maxLength:"256" doc:"Cron with five fields, in UTC; * * * * * is continuous, and the default."`
	SyncWindow *string `json:"syncWindow,omitempty" maxLength:"64" doc:"ISO 8601, PT1H to P7D; required with a schedule that is not continuous."`
	MessageTTL *string `json:"syncMessageTtl,omitempty" maxLength:"64" doc:"ISO 8601, P1D to P90D; the default is P2D."`
	LogLevel   *string `json:"logLevel,omitempty" maxLength:"32" doc:"Debug, Information, Warning, Error or None; the default is Information."`
	GCEnabled  *bool   `json:"gcEnabled,omitempty" doc:"The default is true."`
	GCSchedule *string `json:"gcSchedule,omitempty" maxLength:"256" doc:"Cron with five fields, in UTC; the default is 0 0 * * *."`

	TagFilters []string `json:"tagFilters,omitzero" nullable:"false" maxItems:"50" doc:"Only tags that one of these matches: a pattern as v1.*, a regular expression as /^v1/, a range of versions as >=1.2 <2; ! before one excludes what it matches. Empty is every tag, which is the default."`
	KeepLast   *int     `json:"keepLast,omitempty" minimum:"0" maximum:"1000" doc:"Only this many tags of each repository, those that were set last; 0 is all, which is the default."`
	Platforms  []string `json:"platforms,omitzero" nullable:"false" maxItems:"20" doc:"Of indexes only what is for one of these platforms, as linux/amd64 or linux/arm64/v8, and what is for none. Empty is every platform, which is the default."`
	ByteBudget *string  `json:"byteBudget,omitempty" maxLength:"64" doc:"How much the site's syncs may fetch of layers, as 2GiB/day or 20GiB/month, in UTC; once that is spent they wait for the next, but for urgent repositories. Empty is no limit, which is the default."`
	Bandwidth  []string `json:"bandwidth,omitzero" nullable:"false" maxItems:"24" doc:"What the site's syncs may take of its link: a rate as 2MiB or 4Mbit, or HH:MM-HH:MM=RATE in UTC; the first that fits counts. Empty is no limit, which is the default."`
	Priorities []string `json:"priorities,omitzero" nullable:"false" maxItems:"50" doc:"Which repositories come first, as ops/*=urgent or media/*=low: urgent, high, normal or low; the first that fits counts, and what none fits is normal. Urgent ones also come when the byte budget is spent."`
}
