package gateway

import (
	"io"
	"net/http"

	"ferry/internal/auth"
	"ferry/internal/jsonlimit"
	"ferry/internal/wire"
)

// The limits on a request to join, whose sender has no rights yet.
const (
	maxJoin       = 2 << 10 // bytes of the body
	maxJoinValues = 16 << 10
	maxSecret     = 256 // bytes of the sync token's name, and of the join token
)

// join exchanges a join token for a password that the sender has made. The sender authenticates with
// the name of its sync token and the join token.
func (s *server) join(w http.ResponseWriter, r *http.Request, requests *jsonlimit.Decoder[wire.JoinRequest]) error {
	if s.Ready != nil && !s.Ready() {
		return ErrNotReady
	}
	token, secret, ok := r.BasicAuth()
	if !ok || len(token) > maxSecret || len(secret) > maxSecret {
		return ErrJoinRefused
	}
	end, err := s.Limit(r, token)
	if err != nil {
		return err
	}
	joined := false
	defer func() { end(joined) }()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJoin))
	if err != nil {
		return problem(http.StatusRequestEntityTooLarge, "INVALID", "the request is too large")
	}
	var q wire.JoinRequest
	if _, err := requests.Unmarshal(body, &q); err != nil {
		return invalid("the request is not valid: %v", err)
	}
	if q.InstanceID == "" || len(q.InstanceID) > 64 || len(q.Version) > 64 || len(q.Name) > maxPollText {
		return invalid("instanceId is missing, or it, name or version is too long")
	}
	err = s.admission.enter(r.Context(), func() error {
		return s.ControlPlane.Join(r.Context(), token, auth.HashPassword(secret), sender(r), q)
	})
	if err != nil {
		return err
	}
	joined = true
	s.Log.Info("an instance has exchanged a join token", "registry", q.Name, "instance", q.InstanceID)
	return writeJSON(s, w, r, wire.JoinResponse{Capability: commonCapability(q.Capability)})
}

// joinHandler returns the handler of [server.join].
func (s *server) joinHandler() http.HandlerFunc {
	requests := jsonlimit.New[wire.JoinRequest](maxJoinValues)
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.join(w, r, requests); err != nil {
			s.fail(w, r, err)
		}
	}
}
