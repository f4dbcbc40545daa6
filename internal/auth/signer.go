package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenLife is how long a signed token is good for: long enough for a pull
// over a slow link to be authorised request by request, short because a
// client fetches a new one without being asked.
const tokenLife = 5 * time.Minute

// clockSkew is by how much the clock may go back without ending the tokens.
const clockSkew = 30 * time.Second

// A Signer makes and reads the short tokens of the token endpoint: JWTs
// (RFC 7519) signed with Ed25519.
type Signer struct {
	key ed25519.PrivateKey
	id  string
	now func() time.Time

	mu    sync.Mutex
	known map[string]*claims // tokens that it made, or whose signature was right: nothing is checked again
	bytes int                // that these take, as estimated
}

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	Kind       Kind    `json:"kind"`
	Generation string  `json:"gen"` // of the password that it was got with
	Access     []Scope `json:"access"`
}

// Limits on the verified tokens that are remembered: how many, and what they take in
// bytes. With what it says, a token takes some four times its text.
const (
	maxKnown      = 4096
	maxKnownBytes = 8 << 20
	knownCost     = 4
)

// Limits on a token, in bytes: the longest that is looked at, which is more
// than one for the most scopes has, and the longest that is remembered.
const (
	maxToken      = 64 << 10
	maxKnownToken = 4 << 10
)

// NewSigningKey returns a new key in the form that [NewSigner] reads.
func NewSigningKey() string {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // it never fails
	return base64.StdEncoding.EncodeToString(seed)
}

// NewSigner returns the signer with a key of [NewSigningKey].
func NewSigner(key string, now func() time.Time) (*Signer, error) {
	seed, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("read signing key: it is malformed")
	}
	private := ed25519.NewKeyFromSeed(seed)
	sum := sha256.Sum256(private.Public().(ed25519.PublicKey))
	return &Signer{key: private, id: hex.EncodeToString(sum[:8]), now: now, known: map[string]*claims{}}, nil
}

// sign returns a token for p with the scopes.
func (s *Signer) sign(p *Principal, service string, scopes []Scope) (token string, issued time.Time, err error) {
	issued = s.now()
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.id, Subject: p.Name, Audience: jwt.ClaimStrings{service},
			IssuedAt: jwt.NewNumericDate(issued), NotBefore: jwt.NewNumericDate(issued.Add(-clockSkew)),
			ExpiresAt: jwt.NewNumericDate(issued.Add(tokenLife)), ID: rand.Text(),
		},
		Kind: p.Kind, Generation: p.Generation, Access: scopes,
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header["kid"] = s.id
	token, err = t.SignedString(s.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign token: %w", err)
	}
	s.remember(token, &c)
	return token, issued, nil
}

// inTime reports whether a token is good now, and for no longer than those that
// [Signer.sign] makes. A longer one was made by somebody who had the key for a moment.
func (c *claims) inTime(now time.Time) bool {
	if c.IssuedAt == nil || c.ExpiresAt == nil || c.ExpiresAt.Sub(c.IssuedAt.Time) > tokenLife {
		return false
	}
	return !now.Before(c.IssuedAt.Add(-clockSkew)) && !now.After(c.ExpiresAt.Time)
}

// read returns what a token says, if this signer made it and it is in time.
func (s *Signer) read(token string) (*claims, error) {
	if len(token) > maxToken {
		return nil, ErrUnauthenticated
	}
	s.mu.Lock()
	c := s.known[token]
	s.mu.Unlock()
	if c != nil {
		if !c.inTime(s.now()) {
			return nil, ErrUnauthenticated
		}
		return c, nil
	}
	c = &claims{}
	_, err := jwt.ParseWithClaims(token, c, func(*jwt.Token) (any, error) { return s.key.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(s.id),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.now))
	if err != nil || !c.inTime(s.now()) {
		return nil, ErrUnauthenticated
	}
	s.remember(token, c)
	return c, nil
}

// remember keeps what a token of this signer says, unless the token is long.
func (s *Signer) remember(token string, c *claims) {
	if len(token) > maxKnownToken {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown || s.bytes+knownCost*len(token) > maxKnownBytes {
		clear(s.known)
		s.bytes = 0
	}
	s.known[token] = c
	s.bytes += knownCost * len(token)
}
