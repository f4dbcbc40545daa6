package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// maxProven bounds how many right passwords are remembered.
const maxProven = 4096

// proven remembers which names and passwords were right, by a digest with a
// key that the process keeps to itself. It decides nothing: it says for whom
// a check may be skipped that is there to slow down guessing.
type proven struct {
	key [32]byte

	mu    sync.Mutex
	right map[[32]byte]struct{}
}

func newProven() *proven {
	p := &proven{right: map[[32]byte]struct{}{}}
	rand.Read(p.key[:]) // it never fails
	return p
}

// digest is of a and b together, each with its length, so that no other two
// texts have the same.
func (p *proven) digest(a, b string) [32]byte {
	mac := hmac.New(sha256.New, p.key[:])
	for _, text := range []string{a, b} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		mac.Write(length[:])
		mac.Write([]byte(text))
	}
	return [32]byte(mac.Sum(nil))
}

// text is the digest of a and b as text.
func (p *proven) text(a, b string) string {
	d := p.digest(a, b)
	return string(d[:])
}

func (p *proven) has(a, b string) bool {
	d := p.digest(a, b)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.right[d]
	return ok
}

func (p *proven) set(a, b string, right bool) {
	d := p.digest(a, b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !right {
		delete(p.right, d)
		return
	}
	if len(p.right) >= maxProven {
		clear(p.right)
	}
	p.right[d] = struct{}{}
}
