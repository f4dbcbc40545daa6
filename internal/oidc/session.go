package oidc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"ferry/internal/auth"
)

// maxCookie bounds a cookie, in bytes. Browsers store no longer ones.
const maxCookie = 4 << 10

// sealer signs the values of cookies, so that their holders cannot change them.
type sealer struct{ key []byte }

// mac returns the signature of a value for one use, so that no cookie stands for another.
func (s sealer) mac(use, value string) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(use + "\x00" + value))
	return m.Sum(nil)
}

// seal returns v as JSON, with its signature.
func (s sealer) seal(use string, v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	value := base64.RawURLEncoding.EncodeToString(text)
	sealed := value + "." + base64.RawURLEncoding.EncodeToString(s.mac(use, value))
	if len(sealed) > maxCookie {
		return "", errors.New("the cookie is too long")
	}
	return sealed, nil
}

// open reads a value of seal for the same use into v.
func (s sealer) open(use, sealed string, v any) error {
	errBad := errors.New("the cookie is not of this instance")
	value, mac, ok := strings.Cut(sealed, ".")
	if !ok || len(sealed) > maxCookie {
		return errBad
	}
	got, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || !hmac.Equal(got, s.mac(use, value)) {
		return errBad
	}
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return errBad
	}
	return json.Unmarshal(text, v)
}

// The session of a browser.
const (
	sessionCookie = "ferry_session"
	sessionUse    = "session"
	sessionFor    = 8 * time.Hour
)

// A session is the content of the cookie of somebody who logged in.
type session struct {
	Person
	Rules string    `json:"rules"` // the hash of the rules of the login
	End   time.Time `json:"end"`
}

// rulesHash identifies the settings that gave rights. A session ends if they change.
func (s *Service) rulesHash() string {
	text, _ := json.Marshal([]any{s.Issuer, s.ClientID, s.GroupsClaim, s.Rules}) // texts
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Session returns the operator of a request with a session's cookie. It does not ask the provider.
func (s *Service) Session(r *http.Request) (*auth.Principal, error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil, auth.ErrUnauthenticated
	}
	var v session
	if err := s.signed.open(sessionUse, c.Value, &v); err != nil || !s.Now().Before(v.End) ||
		v.Rules != s.rulesHash() || v.Name == "" {
		return nil, auth.ErrUnauthenticated
	}
	return v.principal(), nil
}

// maxStates bounds the finished logins that are remembered.
const maxStates = 10_000

// usedStates are the states of logins that have ended, so that no answer of the provider is used
// twice.
type usedStates struct {
	mu sync.Mutex
	at map[string]time.Time // the end of the time in which a state could be used
}

// use reports whether a state was not used before.
func (u *usedStates) use(state string, end, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, used := u.at[state]; used {
		return false
	}
	if len(u.at) >= maxStates {
		for state, end := range u.at {
			if now.After(end) {
				delete(u.at, state)
			}
		}
	}
	if len(u.at) >= maxStates {
		return false
	}
	u.at[state] = end
	return true
}
