package management

import (
	"context"
	"strings"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/credential"
	"ferry/internal/wire"
)

// credentials adds the operation that gives a running connected registry other credentials.
func (h *handler) credentials() {
	states := map[credential.State]string{
		credential.Untried: api.CredentialsUntried, credential.Accepted: api.CredentialsAccepted,
		credential.Refused: api.CredentialsRefused,
	}
	outcomes := map[credential.State]string{
		credential.Untried: "the parent has not answered yet", credential.Accepted: "the parent accepts them",
		credential.Refused: "the parent refuses them",
	}
	register(h, operation{
		"PUT /sync/credentials", "set-credentials",
		"Give this connected registry other credentials for its parent; they are tried at once",
	}, func(ctx context.Context, in *struct {
		Call
		Body api.CredentialsPut
	}) (*plain[api.CredentialsResult], error) {
		if h.Syncer == nil {
			return nil, control.Refuse(api.CodeNotFound, "this is a root registry, which logs in to no parent").
				WithHint("give credentials to the connected registry itself")
		}
		c, err := connectionOf(in.Body.Credentials, h.Syncer.Connection())
		if err != nil {
			return nil, err
		}
		if !strings.EqualFold(c.Name, h.Control.Self()) {
			return nil, control.Invalid("the connection string is for connected registry %s, and this is %s", c.Name,
				h.Control.Self())
		}
		const action = "set-credentials"
		if err := h.Control.AuditAlone(ctx, in.by, action, "sync", "the parent is asked"); err != nil {
			return nil, err
		}
		state := h.Syncer.SetConnection(ctx, c)
		h.Control.AuditOutcome(ctx, in.by, action, "sync", outcomes[state])
		return &plain[api.CredentialsResult]{api.CredentialsResult{State: states[state]}}, nil
	})
}

// connectionOf returns the connection string that an operator gave: the text itself, or the current one
// with the text as its password. No error has anything of the text.
func connectionOf(text string, current wire.ConnectionString) (wire.ConnectionString, error) {
	if !strings.Contains(text, "=") || !strings.Contains(text, ";") {
		current.Password, current.JoinToken = strings.TrimSpace(text), ""
		text = current.Secret()
	}
	c, err := wire.ParseConnectionString(text)
	if err != nil {
		return c, control.Invalid("%v", err).
			WithHint("make one with ferry connected-registry get-settings, or give only the password")
	}
	return c, nil
}
