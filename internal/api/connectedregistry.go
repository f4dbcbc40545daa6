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
	LastSyncTime    *time.Time `json:"lastSyncTime"`
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
