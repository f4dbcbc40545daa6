package fleet

import (
	"net/http"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// Refused notes the last login that was refused with the name of a child's sync
// token. One is kept for each child, so a stranger can
// replace it, and do no more. Implements [gateway.ControlPlane].
func (s *Service) Refused(token, from string, why wire.Problem) {
	state := s.control.State()
	r := state.SyncedBy(token)
	if r == nil || !s.control.IsChild(r.ConnectedRegistry) {
		return
	}
	s.reports.refused(r.Name, wire.RefusedLogin{
		At: s.now().UTC(), From: terminal.Clip(from, maxReportText), Why: terminal.Clip(s.whyRefused(state, r, why), maxReportText),
	})
}

// whyRefused is why a login was refused, for operators. The answer to its sender does
// not say what is wrong with a token or a password.
func (s *Service) whyRefused(state *control.State, r *control.Registry, why wire.Problem) string {
	switch t := state.Token(r.SyncToken); {
	case why.Status != http.StatusUnauthorized || t == nil:
		return why.Detail
	case t.Status != api.Enabled:
		return "the sync token is disabled"
	case !state.MayLogIn(r.SyncToken, s.now()):
		return "the sync token has no password, or none that has not expired"
	}
	return "the password is wrong, or has expired"
}

func refusedOf(st wire.Status) *api.RefusedLogin {
	l := st.LastRefused
	if l == nil {
		return nil
	}
	return &api.RefusedLogin{Time: l.At.UTC(), Source: l.From, Reason: l.Why}
}
