package fleet

import (
	"cmp"
	"context"
	"strings"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// Placeholders for missing values, in the reference's words.
const (
	noLoginServer = "<Optional: connected registry login server>"
	noEndpoint    = "<parent gateway endpoint>"
)

// InstanceSettings returns the settings that an instance needs to become the connected registry
// name. On request, it generates a password of the sync token, or a join token.
func (s *Service) InstanceSettings(ctx context.Context, by control.Caller, name string,
	post api.SettingsPost) (v api.InstanceSettings, err error) {
	if post.ParentProtocol != "http" && post.ParentProtocol != "https" {
		return v, control.Invalid("'%.20s' is not a protocol: want http or https", post.ParentProtocol)
	}
	c := wire.ConnectionString{Password: wire.NoPassword, Protocol: post.ParentProtocol}
	var row metadb.ConnectedRegistry
	read := func(tx *metadb.Tx) (err error) {
		row, err = tx.ConnectedRegistry(name)
		return control.MapNotFound(err, "connected registry", name)
	}
	change := func(action string, do func(*metadb.Tx) error) error {
		return s.control.Write(ctx, by, action, "connected-registries/"+name, func(tx *metadb.Tx) error {
			if err := read(tx); err != nil {
				return err
			}
			if !s.control.State().SeesToken(by.Limits, row.SyncToken) { // it would give its rights away
				return control.Outside(by.Name, control.KindToken+"/"+row.SyncToken)
			}
			return do(tx)
		})
	}
	switch {
	case post.GeneratePassword != 0 && post.JoinFor != "":
		err = control.Invalid("a password and a join token exclude each other")
	case post.JoinFor != "":
		c.Password = ""
		err = change("make-join-token", func(tx *metadb.Tx) (err error) {
			c.JoinToken, err = s.makeJoinToken(tx, row, post.JoinFor)
			return err
		})
	case post.GeneratePassword == 0:
		err = s.db.View(ctx, read)
	case post.GeneratePassword == 1 || post.GeneratePassword == 2:
		slot := []string{api.Password1, api.Password2}[post.GeneratePassword-1]
		err = change("generate-credentials", func(tx *metadb.Tx) (err error) {
			c.Password, err = s.makePassword(tx, row, slot)
			return err
		})
	default:
		err = control.Invalid("%d is not a password of a token: want 1 or 2", post.GeneratePassword)
	}
	if err != nil {
		return v, err
	}
	endpoint := s.parentOf(by, row)
	c.Name, c.Token, c.Endpoint = row.Name, row.SyncToken, cmp.Or(endpoint.address, noEndpoint)
	if endpoint.tls {
		c.Protocol = "https"
	}
	return api.InstanceSettings{
		CertificateVolume: "/var/acr/certs", ConnectionString: c.Secret(), DataVolume: "/var/acr/data",
		LoginServer: noLoginServer, SyncTokenPassword: cmp.Or(c.Password, wire.NoPassword),
		SyncTokenUser: row.SyncToken,
	}, nil
}

// makePassword generates the password in a slot of a connected registry's sync token.
func (s *Service) makePassword(tx *metadb.Tx, row metadb.ConnectedRegistry, slot string) (string, error) {
	token, err := tx.Token(row.SyncToken)
	if err != nil {
		return "", control.MapNotFound(err, "sync token", row.SyncToken)
	}
	values, err := s.control.SetPasswords(&token, []api.PasswordPut{{Name: slot}})
	if err != nil {
		return "", err
	}
	return values[slot], tx.PutToken(token)
}

// A parentEndpoint is the address at which a connected registry finds its parent.
type parentEndpoint struct {
	address string // host:port, and perhaps a path; "" is not known
	tls     bool   // it is known to speak TLS
}

// parentOf returns the address of a connected registry's parent. That of another connected registry is
// known once it has reported it.
func (s *Service) parentOf(by control.Caller, row metadb.ConnectedRegistry) parentEndpoint {
	switch {
	case s.control.IsSelf(row.Name):
		return parentEndpoint{}
	case strings.EqualFold(row.Parent, s.control.Self()):
		return parentEndpoint{cmp.Or(s.address, by.Host), s.tls || s.address == "" && by.TLS}
	}
	st := s.reports.of(row.Parent).Status
	if endpoint := cmp.Or(st.Endpoint, st.LoginServer); wire.CheckEndpoint(endpoint) == nil {
		return parentEndpoint{endpoint, st.TLS}
	}
	return parentEndpoint{}
}
