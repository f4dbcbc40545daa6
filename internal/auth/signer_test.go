package auth

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func newTestSigner(t testing.TB) *Signer {
	t.Helper()
	s, err := NewSigner(NewSigningKey(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTokenOfAnotherSignerIsRefused(t *testing.T) {
	s, other := newTestSigner(t), newTestSigner(t)
	principal := &Principal{Kind: KindToken, Name: "line1"}
	token, _, err := s.sign(principal, "service", []Scope{{Type: "repository", Name: "a", Actions: []string{"pull"}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from the cache
		if c, err := s.verify(token); err != nil || c.Subject != "line1" || c.Kind != KindToken || len(c.Access) != 1 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if _, err := other.verify(token); err != ErrUnauthenticated {
		t.Errorf("another registry's token: %v", err)
	}
	parts := strings.Split(token, ".")
	if _, err := s.verify(parts[0] + "." + parts[1] + "."); err != ErrUnauthenticated {
		t.Errorf("a token without signature: %v", err)
	}
	c := claims{RegisteredClaims: jwt.RegisteredClaims{Issuer: s.id, Subject: "admin",
		ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}, Kind: KindOperator}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, c).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	// The public key must not work as an HMAC secret.
	hmac, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(s.key.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(hmac); err != ErrUnauthenticated {
		t.Errorf("a token signed with the public key: %v", err)
	}
	if _, err := s.verify(none); err != ErrUnauthenticated {
		t.Errorf("an unsigned token: %v", err)
	}
	c.ExpiresAt = nil
	forever, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(forever); err != ErrUnauthenticated {
		t.Errorf("a token without expiry: %v", err)
	}
}

func TestTokenWithALongLifetimeIsRefused(t *testing.T) {
	s := newTestSigner(t)
	now := time.Now().Truncate(time.Second)
	for _, test := range []struct {
		name            string
		issued, expires time.Time
		want            bool
	}{
		{"as issued", now, now.Add(tokenLifetime), true},
		{"a year", now, now.AddDate(1, 0, 0), false},
		{"a second more", now, now.Add(tokenLifetime + time.Second), false},
		{"issued in a year", now.AddDate(1, 0, 0), now.AddDate(1, 0, 0).Add(tokenLifetime), false},
		{"over", now.Add(-2 * tokenLifetime), now.Add(-tokenLifetime), false},
		{"nobody knows when it was issued", time.Time{}, now.Add(tokenLifetime), false},
	} {
		c := claims{Kind: KindOperator, RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.id, Subject: "admin", ExpiresAt: jwt.NewNumericDate(test.expires),
		}}
		if !test.issued.IsZero() {
			c.IssuedAt = jwt.NewNumericDate(test.issued)
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(s.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.verify(token); (err == nil) != test.want {
			t.Errorf("%s: %v, want it accepted: %v", test.name, err, test.want)
		}
	}
}

// TestTokensEndWhenTheClockIsSetBack uses a cached token: its signature is not checked again, but
// its times are.
func TestTokensEndWhenTheClockIsSetBack(t *testing.T) {
	now := time.Now()
	s, err := NewSigner(NewSigningKey(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.sign(&Principal{Kind: KindToken, Name: "x"}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		by   time.Duration
		want bool
	}{{0, true}, {-10 * time.Second, true}, {-time.Hour, false}, {time.Hour, true}, {time.Hour, false}} {
		now = now.Add(step.by)
		if _, err := s.verify(token); (err == nil) != step.want {
			t.Errorf("after a step of %s: %v, want it accepted: %v", step.by, err, step.want)
		}
	}
}

func TestSignerCachesABoundedNumberOfTokens(t *testing.T) {
	s := newTestSigner(t)
	for n := range maxCachedTokens + 10 {
		s.cached[fmt.Sprint(n)] = &claims{}
	}
	token, _, err := s.sign(&Principal{Kind: KindToken, Name: "x"}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(token); err != nil || len(s.cached) != 1 {
		t.Errorf("%v, %d", err, len(s.cached))
	}
}

func TestAnonymousTokensAreNotCached(t *testing.T) {
	s := newTestSigner(t)
	token, _, err := s.sign(&Principal{Kind: KindAnonymous}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.verify(token); err != nil || c.Kind != KindAnonymous || len(s.cached) != 0 {
		t.Errorf("%+v, %v, %d tokens are cached", c, err, len(s.cached))
	}
}

func TestMalformedSigningKeyIsRefused(t *testing.T) {
	for _, key := range []string{"", "x", "AAAA", NewSigningKey() + "A"} {
		if _, err := NewSigner(key, time.Now); err == nil || len(key) > 8 && strings.Contains(err.Error(), key) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestSignerCacheSizeIsBounded(t *testing.T) {
	s := newTestSigner(t)
	var scopes []Scope
	for range 20 {
		scopes = append(scopes, Scope{Type: "repository", Name: strings.Repeat("x", 80), Actions: []string{"pull"}})
	}
	for range 1500 {
		if _, _, err := s.sign(&Principal{Kind: KindToken, Name: "x"}, "", scopes); err != nil {
			t.Fatal(err)
		}
		text := 0
		for token := range s.cached {
			text += len(token)
		}
		if text > maxCacheBytes/cacheCost || len(s.cached) == 0 {
			t.Fatalf("%d tokens of %d bytes are cached", len(s.cached), text)
		}
	}
	if len(s.cached) == 1500 {
		t.Error("all tokens fit into the cache, so that this test proves nothing")
	}
}
