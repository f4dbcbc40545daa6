package fleet

import (
	"net/http"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// Refused records a refused login with the name of a child's sync token. Only the last one is kept
// for each child, so that a stranger can replace it and do no more. Implements
// [gateway.ControlPlane].
func (s *Service) Refused(token, from string, why wire.Problem) {
	state := s.control.State()
	r := state.SyncedBy(token)
	if r == nil || !s.control.IsChild(r.ConnectedRegistry) {
		return
	}
	login := wire.RefusedLogin{At: s.now().UTC(), Sender: from, Reason: s.whyRefused(state, r, why)}
	clip(maxReportText, &login.Sender, &login.Reason)
	s.reports.setRefused(r.Name, login)
}

// whyRefused returns the reason of a refused login, for operators. The answer to the sender does
// not say whether the token or the password is wrong.
func (s *Service) whyRefused(state *control.State, r *control.Registry, why wire.Problem) string {
	switch t := state.Token(r.SyncToken); {
	case why.Detail == gateway.ErrJoinRefused.Error():
		return why.Detail
	case why.Status != http.StatusUnauthorized || t == nil:
		return why.Detail
	case t.Status != api.Enabled:
		return "the sync token is disabled"
	case !state.MayLogIn(r.SyncToken, s.now()):
		return "the sync token has no password, or all have expired"
	}
	return "the password is wrong, or has expired"
}

// refusalDetail returns the status detail of a login that was refused after the connected registry was
// last seen; nil is none. There is at most one, and it ends when the registry logs in again. Anybody
// can send a login that is refused. So one counts only if the registry cannot log in at all, or if it
// is not heard although it should be.
func (s *Service) refusalDetail(row metadb.ConnectedRegistry, h lastReport) *api.StatusDetail {
	l, state := h.Status.LastRefused, s.control.State()
	if l == nil || !l.At.After(h.SeenAt) {
		return nil
	}
	r := state.Registry(row.Name)
	if r == nil || r.InstanceID != "" && state.MayLogIn(r.SyncToken, s.now()) && !s.isSilent(state, r) {
		return nil
	}
	return &api.StatusDetail{
		Type: "Connection", Code: wire.ParentRefuses, Timestamp: l.At.UTC(), CorrelationID: h.Status.InstanceID,
		Description: "its parent refused a login with its sync token, sent from " + l.Sender + ": " + l.Reason +
			"; it was not heard since then",
	}
}

func refusedOf(st wire.Status) *api.RefusedLogin {
	l := st.LastRefused
	if l == nil {
		return nil
	}
	return &api.RefusedLogin{Time: l.At.UTC(), Sender: l.Sender, Reason: l.Reason}
}
