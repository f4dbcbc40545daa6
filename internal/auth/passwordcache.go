package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// maxCachedPasswords is the maximum number of cached passwords.
const maxCachedPasswords = 4096

// passwordCache remembers verified names and passwords, by a digest with a key that stays in the
// process. It authenticates nobody: it only tells for which logins the limits against guessing, or
// a slow hash, may be skipped.
type passwordCache struct {
	key [32]byte

	mu       sync.Mutex
	verified map[[32]byte]struct{}
}

func newPasswordCache() *passwordCache {
	p := &passwordCache{verified: map[[32]byte]struct{}{}}
	rand.Read(p.key[:]) // it never fails
	return p
}

// digest returns the digest of a and b. It contains the length of each, so that no other two texts
// have the same digest.
func (p *passwordCache) digest(a, b string) [32]byte {
	mac := hmac.New(sha256.New, p.key[:])
	for _, text := range []string{a, b} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		mac.Write(length[:])
		mac.Write([]byte(text))
	}
	return [32]byte(mac.Sum(nil))
}

// text returns the digest of a and b as text.
func (p *passwordCache) text(a, b string) string {
	d := p.digest(a, b)
	return string(d[:])
}

func (p *passwordCache) has(a, b string) bool {
	d := p.digest(a, b)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.verified[d]
	return ok
}

func (p *passwordCache) set(a, b string, right bool) {
	d := p.digest(a, b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !right {
		delete(p.verified, d)
		return
	}
	if len(p.verified) >= maxCachedPasswords {
		clear(p.verified)
	}
	p.verified[d] = struct{}{}
}
