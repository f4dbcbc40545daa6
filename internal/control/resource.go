package control

import "time"

// The resources of the management API. Names, nesting and values are those
// of the reference, so that scripts written for it read them unchanged. Times
// are RFC 3339 in UTC. Ids are paths below the API's root.

// A ScopeMap is a named list of actions.
type ScopeMap struct {
	ID                string    `json:"id"`
	Name              string    `json:"name"`
	Type              string    `json:"type" enum:"UserDefined,SystemDefined"`
	Description       string    `json:"description"`
	Actions           []string  `json:"actions"`
	CreationDate      time.Time `json:"creationDate"`
	ProvisioningState string    `json:"provisioningState"`

	version int64
}

// A Token is a credential with two passwords and one scope map.
type Token struct {
	ID                string           `json:"id"`
	Name              string           `json:"name"`
	ScopeMapID        string           `json:"scopeMapId"`
	Status            string           `json:"status" enum:"enabled,disabled"`
	Credentials       TokenCredentials `json:"credentials"`
	CreationDate      time.Time        `json:"creationDate"`
	ProvisioningState string           `json:"provisioningState"`

	version int64
}

// TokenCredentials are a token's passwords.
type TokenCredentials struct {
	Username  string          `json:"username"` // the token's name
	Passwords []TokenPassword `json:"passwords"`
}

// A TokenPassword is one of a token's two slots. Value is there only in the
// answer to the call that made it.
type TokenPassword struct {
	Name         string     `json:"name" enum:"password1,password2"`
	CreationTime time.Time  `json:"creationTime"`
	Expiry       *time.Time `json:"expiry"` // null is never
	Value        *string    `json:"value"`
}

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

	version int64
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

// A Repository is one of the registry's. The counts are there only when it is
// asked for by its name.
type Repository struct {
	Name           string    `json:"name"`
	CreatedTime    time.Time `json:"createdTime"`
	LastUpdateTime time.Time `json:"lastUpdateTime"`
	ManifestCount  *int      `json:"manifestCount,omitempty"`
	TagCount       *int      `json:"tagCount,omitempty"`
}
