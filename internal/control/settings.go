package control

import (
	"context"
	"strings"

	"ferry/internal/gateway"
	"ferry/internal/metadb"
)

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

// What stands where there is nothing to say, in the reference's words.
const (
	noPassword    = "<use --generate-password to generate a new password>"
	noLoginServer = "<Optional: connected registry login server>"
	noEndpoint    = "<parent gateway endpoint>"
)

// Settings returns what an instance needs to become the connected registry
// name, and makes a password where that is asked for.
func (s *Service) Settings(ctx context.Context, by Caller, name string, post SettingsPost) (v InstanceSettings, err error) {
	if post.ParentProtocol != "http" && post.ParentProtocol != "https" {
		return InstanceSettings{}, invalid("'%.20s' is no protocol of a parent: want http or https", post.ParentProtocol)
	}
	var row metadb.ConnectedRegistry
	read := func(tx *metadb.Tx) (err error) {
		row, err = tx.ConnectedRegistry(name)
		return found(err, "connected registry", name)
	}
	password := noPassword
	switch post.GeneratePassword {
	case 0:
		err = s.db.View(ctx, read)
	case 1, 2:
		slot := slots[post.GeneratePassword-1]
		err = s.write(ctx, by, "generate-credentials", "connected-registries/"+name, func(tx *metadb.Tx) error {
			if err := read(tx); err != nil {
				return err
			}
			token, err := tx.Token(row.SyncToken)
			if err != nil {
				return found(err, "sync token", row.SyncToken)
			}
			values, err := s.setPasswords(&token, []PasswordPut{{Name: slot}})
			if err != nil {
				return err
			}
			password = values[slot]
			return tx.PutToken(token)
		})
	default:
		err = invalid("%d is no password of a token: want 1 or 2", post.GeneratePassword)
	}
	if err != nil {
		return InstanceSettings{}, err
	}
	endpoint := s.endpointFor(by, row)
	if endpoint == "" {
		endpoint = noEndpoint
	}
	connection := gateway.ConnectionString{
		Name: row.Name, Token: row.SyncToken, Password: password, Endpoint: endpoint, Protocol: post.ParentProtocol,
	}
	return InstanceSettings{
		CertificateVolume: "/var/acr/certs", ConnectionString: connection.Secret(), DataVolume: "/var/acr/data",
		LoginServer: noLoginServer, SyncTokenPassword: password, SyncTokenUser: row.SyncToken,
	}, nil
}

// endpointFor is where the connected registry finds its parent, as
// "host:port". Of a parent that is a connected registry itself it is "": its
// address at the site is not known here.
func (s *Service) endpointFor(by Caller, row metadb.ConnectedRegistry) string {
	if !strings.EqualFold(row.Parent, s.self) || s.isSelf(row.Name) {
		return ""
	}
	if s.address != "" {
		return s.address
	}
	return by.Host
}
