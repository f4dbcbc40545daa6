package api

import "time"

// The modes of a connected registry.
const (
	ReadOnly  = "ReadOnly"
	ReadWrite = "ReadWrite"
)

// The states of a connected registry at its ancestors.
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
	Type               string              `json:"type" doc:"The same for each: the original's type of a resource."`
	Mode               string              `json:"mode" enum:"ReadOnly,ReadWrite"`
	Version            *string             `json:"version"`
	ConnectionState    string              `json:"connectionState" enum:"Online,Offline,Syncing,Unhealthy"`
	LastActivityTime   *time.Time          `json:"lastActivityTime"`
	Activation         Activation          `json:"activation"`
	Sync               Verdict             `json:"sync"`
	Summary            Summary             `json:"summary"`
	Parent             Parent              `json:"parent"`
	ClientTokenIDs     []string            `json:"clientTokenIds"`
	TagFilters         []string            `json:"tagFilters"` // empty is every tag
	KeepLast           *int                `json:"keepLast"`   // null is all
	Platforms          []string            `json:"platforms"`  // empty is every platform
	Labels             map[string]string   `json:"labels"`
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

// A RegistryDeletion is what the deletion of a connected registry leaves.
type RegistryDeletion struct {
	Leftovers []string `json:"leftovers,omitempty" doc:"Commands that delete what is left of it."`

	WriteResult
}

// Activation says whether an instance has been activated as this connected registry.
type Activation struct {
	Status string `json:"status" enum:"Active,Inactive"`
}

// Parent is the parent of a connected registry, with the sync settings.
type Parent struct {
	ID             *string        `json:"id,omitempty" doc:"Absent if the parent is the root."`
	SyncProperties SyncProperties `json:"syncProperties"`
}

// SyncProperties are a connected registry's sync settings.
type SyncProperties struct {
	TokenID         string     `json:"tokenId"`
	AuthType        string     `json:"authType" enum:"SyncToken"`
	Schedule        string     `json:"schedule"`   // cron, five fields, UTC
	SyncWindow      *string    `json:"syncWindow"` // ISO 8601; null when continuous
	MessageTTL      string     `json:"messageTtl"` // ISO 8601
	LastSyncTime    *time.Time `json:"lastSyncTime" doc:"The end of the last successful sync."`
	Bandwidth       []string   `json:"bandwidth"`  // empty is no limit
	ByteBudget      *string    `json:"byteBudget"` // null is no limit
	Priorities      []string   `json:"priorities"` // empty is none
	GatewayEndpoint string     `json:"gatewayEndpoint"`
	// RotatePasswordEvery is how often the registry replaces the password of its sync token by itself.
	RotatePasswordEvery string     `json:"rotatePasswordEvery"` // ISO 8601, or off
	LastRotationTime    *time.Time `json:"lastRotationTime" doc:"When it last did that."`
}

// LoginServer is the address at which a connected registry serves its clients.
type LoginServer struct {
	Host string `json:"host"`
	TLS  TLS    `json:"tls"`
}

// TLS says whether a login server uses TLS.
type TLS struct {
	Status      string       `json:"status" enum:"Enabled,Disabled"`
	Certificate *Certificate `json:"certificate" doc:"Null without TLS, and if the site does not report it."`
}

// A Certificate says where a site has the certificate of its login server.
type Certificate struct {
	Type     string `json:"type" enum:"LocalDirectory"`
	Location string `json:"location" doc:"The directory."`
}

// Logging is the log settings of a connected registry.
type Logging struct {
	LogLevel       string `json:"logLevel" enum:"Debug,Information,Warning,Error,None"`
	AuditLogStatus string `json:"auditLogStatus" enum:"Enabled,Disabled"`
}

// A StatusDetail is one problem of a connected registry.
type StatusDetail struct {
	Type          string    `json:"type"`
	Code          string    `json:"code"`
	Description   string    `json:"description"`
	Timestamp     time.Time `json:"timestamp"`
	CorrelationID string    `json:"correlationId"`
}

// GarbageCollection is the settings of garbage collection.
type GarbageCollection struct {
	Enabled  bool   `json:"enabled"`
	Schedule string `json:"schedule"` // cron, five fields, UTC
}

// RegistrySyncResult summarises the last sync of a connected registry.
type RegistrySyncResult struct {
	SyncTrigger               string     `json:"syncTrigger"`
	SyncState                 string     `json:"syncState"`
	LastSyncStartTime         *time.Time `json:"lastSyncStartTime"`
	LastSyncEndTime           *time.Time `json:"lastSyncEndTime"`
	LastSuccessfulSyncEndTime *time.Time `json:"lastSuccessfulSyncEndTime"`
}

// A RegistryPut creates a connected registry. It contains either Repositories or SyncToken.
type RegistryPut struct {
	Mode          string   `json:"mode,omitempty" maxLength:"32" doc:"ReadOnly, the default, or ReadWrite."`
	Parent        string   `json:"parent,omitempty" maxLength:"100" doc:"The default is the root."`
	Repositories  []string `json:"repositories,omitempty" maxItems:"5000" doc:"NAME, PREFIX/*, *, or !NAME."`
	SyncToken     string   `json:"syncToken,omitempty" maxLength:"100" doc:"A token whose scope map says what to sync."`
	ClientTokens  []string `json:"clientTokens,omitempty" maxItems:"10000"`
	Notifications []string `json:"notifications,omitempty" maxItems:"1000"`
	Settings
}

// A RegistryPatch changes a connected registry.
type RegistryPatch struct {
	AddClientTokens     []string `json:"addClientTokens,omitempty" maxItems:"10000"`
	RemoveClientTokens  []string `json:"removeClientTokens,omitempty" maxItems:"10000"`
	AddNotifications    []string `json:"addNotifications,omitempty" maxItems:"1000"`
	RemoveNotifications []string `json:"removeNotifications,omitempty" maxItems:"1000"`
	Settings
}

// Settings are the settings of a connected registry that can be changed later, as a merge patch:
// nil leaves a setting unchanged and is not in the JSON. wire.Spec has a field with the
// same name for each of these.
type Settings struct {
	Schedule   *string `json:"syncSchedule,omitempty" maxLength:"256"`
	SyncWindow *string `json:"syncWindow,omitempty" maxLength:"64"`
	MessageTTL *string `json:"syncMessageTtl,omitempty" maxLength:"64"`
	LogLevel   *string `json:"logLevel,omitempty" maxLength:"32"`
	AuditLogs  *bool   `json:"auditLogsEnabled,omitempty" doc:"Whether the instance sends its audit log up."`
	GCEnabled  *bool   `json:"gcEnabled,omitempty"`
	GCSchedule *string `json:"gcSchedule,omitempty" maxLength:"256"`

	TagFilters []string `json:"tagFilters,omitzero" nullable:"false" maxItems:"50"`
	KeepLast   *int     `json:"keepLast,omitempty" minimum:"0" maximum:"1000"`
	Platforms  []string `json:"platforms,omitzero" nullable:"false" maxItems:"20"`
	ByteBudget *string  `json:"byteBudget,omitempty" maxLength:"64"`
	Bandwidth  []string `json:"bandwidth,omitzero" nullable:"false" maxItems:"24"`
	Priorities []string `json:"priorities,omitzero" nullable:"false" maxItems:"50"`

	RotatePasswordEvery *string `json:"rotatePasswordEvery,omitempty" maxLength:"32" doc:"ISO 8601, or off."`
	// Labels changes single labels; an empty value removes one.
	Labels map[string]string `json:"labels,omitempty" maxProperties:"64"`
}
