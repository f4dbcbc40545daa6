package auth

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
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

// tokenLifetime is the lifetime of a signed token: long enough to authorise each request of a pull
// over a slow link, and short because clients request a new one by themselves.
const tokenLifetime = 5 * time.Minute

// clockSkew is how far the clock may be set back without ending the tokens.
const clockSkew = 30 * time.Second

// A Signer signs and verifies the short-lived tokens of the token endpoint: JWTs (RFC 7519) signed
// with Ed25519.
type Signer struct {
	key ed25519.PrivateKey
	id  string
	now func() time.Time

	mu     sync.Mutex
	cached map[string]*claims // tokens that it signed or verified
	bytes  int                // of the cached tokens, estimated
}

// claims are the content of a token.
type claims struct {
	jwt.RegisteredClaims
	Kind       Kind    `json:"kind"`
	Generation string  `json:"gen"` // of the password with which it was requested
	Access     []Scope `json:"access"`
}

// Limits on the cached tokens: their number, and their size in bytes. With its claims, a token
// takes about four times the size of its text.
const (
	maxCachedTokens = 4096
	maxCacheBytes   = 8 << 20
	cacheCost       = 4
)

// Limits on the size of a token, in bytes: the largest that is verified, which is more than a token
// with the most scopes has, and the largest that is cached.
const (
	maxToken       = 64 << 10
	maxCachedToken = 4 << 10
)

// NewSigningKey returns a new key in the form that [NewSigner] reads.
func NewSigningKey() string {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // it never fails
	return base64.StdEncoding.EncodeToString(seed)
}

// DeriveSigningKey returns the key that processes with the same secret have in common. The secret must
// be random.
func DeriveSigningKey(secret []byte) (string, error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, "ferry signing key", ed25519.SeedSize)
	return base64.StdEncoding.EncodeToString(seed), err
}

// NewSigner returns a signer with a key of [NewSigningKey].
func NewSigner(key string, now func() time.Time) (*Signer, error) {
	seed, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("read signing key: it is malformed")
	}
	private := ed25519.NewKeyFromSeed(seed)
	sum := sha256.Sum256(private.Public().(ed25519.PublicKey))
	return &Signer{key: private, id: hex.EncodeToString(sum[:8]), now: now, cached: map[string]*claims{}}, nil
}

// sign returns a token for p with the scopes.
func (s *Signer) sign(p *Principal, service string, scopes []Scope) (token string, issued time.Time, err error) {
	issued = s.now()
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.id, Subject: p.Name, Audience: jwt.ClaimStrings{service},
			IssuedAt: jwt.NewNumericDate(issued), NotBefore: jwt.NewNumericDate(issued.Add(-clockSkew)),
			ExpiresAt: jwt.NewNumericDate(issued.Add(tokenLifetime)), ID: rand.Text(),
		},
		Kind: p.Kind, Generation: p.Generation, Access: scopes,
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header["kid"] = s.id
	token, err = t.SignedString(s.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign token: %w", err)
	}
	s.cache(token, &c)
	return token, issued, nil
}

// issued reports whether a token says that this signer has issued it, which may be wrong.
func (s *Signer) issued(token string) bool {
	var c jwt.RegisteredClaims
	if len(token) > maxToken {
		return false
	}
	_, _, err := jwt.NewParser().ParseUnverified(token, &c)
	return err == nil && c.Issuer == s.id
}

// Secret returns a key for one other purpose, from which the signing key cannot be computed.
func (s *Signer) Secret(purpose string) []byte {
	mac := hmac.New(sha256.New, s.key.Seed())
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// isValidAt reports whether a token is valid at now, and for no longer than the tokens of
// [Signer.sign]. A token with a longer lifetime was signed by somebody else who had the key.
func (c *claims) isValidAt(now time.Time) bool {
	if c.IssuedAt == nil || c.ExpiresAt == nil || c.ExpiresAt.Sub(c.IssuedAt.Time) > tokenLifetime {
		return false
	}
	return !now.Before(c.IssuedAt.Add(-clockSkew)) && !now.After(c.ExpiresAt.Time)
}

// verify returns the claims of a token if it is valid.
func (s *Signer) verify(token string) (*claims, error) {
	if len(token) > maxToken {
		return nil, ErrUnauthenticated
	}
	s.mu.Lock()
	c := s.cached[token]
	s.mu.Unlock()
	if c != nil {
		if !c.isValidAt(s.now()) {
			return nil, ErrUnauthenticated
		}
		return c, nil
	}
	c = &claims{}
	_, err := jwt.ParseWithClaims(token, c, func(*jwt.Token) (any, error) { return s.key.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(s.id),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.now))
	if err != nil || !c.isValidAt(s.now()) {
		return nil, ErrUnauthenticated
	}
	s.cache(token, c)
	return c, nil
}

// cache caches the claims of a verified token, unless the token is large. Those of anonymous clients
// are not cached: anybody in their network could push the tokens of others out.
func (s *Signer) cache(token string, c *claims) {
	if len(token) > maxCachedToken || c.Kind == KindAnonymous {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cached) >= maxCachedTokens || s.bytes+cacheCost*len(token) > maxCacheBytes {
		clear(s.cached)
		s.bytes = 0
	}
	s.cached[token] = c
	s.bytes += cacheCost * len(token)
}
