package api

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
}
