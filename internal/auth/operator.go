package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// The cost of a person's password: RFC 9106, section 4, second recommendation
// with less memory, so that a small connected registry can afford it.
const (
	argonTime    = 3
	argonMemory  = 19 << 10 // KiB
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
)

// HashOperatorPassword returns what is stored of a person's password:
// argon2id in the PHC string format.
func HashOperatorPassword(password string) string {
	salt := make([]byte, argonSalt)
	rand.Read(salt) // it never fails
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// sameOperatorPassword reports whether password has the hash. A hash that
// asks for more than a few times the usual cost is refused.
func sameOperatorPassword(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false
	}
	var memory, time uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads); err != nil {
		return false
	}
	if memory > 8*argonMemory || time == 0 || time > 8*argonTime || threads == 0 {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false
	}
	key, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(key) == 0 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, time, memory, threads, uint32(len(key)))
	return subtle.ConstantTimeCompare(key, got) == 1
}

// An OperatorVerifier checks people's passwords. The check is slow and takes
// memory on purpose; so one runs at a time, and a password that was right is
// remembered, by a digest with a secret key, for as long as the process lives.
type OperatorVerifier struct {
	secret [32]byte
	slow   sync.Mutex

	mu    sync.Mutex
	right map[[32]byte]bool
}

// maxRemembered bounds how many right passwords are remembered.
const maxRemembered = 1024

// NewOperatorVerifier returns a verifier that remembers nothing yet.
func NewOperatorVerifier() *OperatorVerifier {
	v := &OperatorVerifier{right: map[[32]byte]bool{}}
	rand.Read(v.secret[:])
	return v
}

// Same reports whether password has the hash of [HashOperatorPassword].
func (v *OperatorVerifier) Same(hash, password string) bool {
	digest := sha256.New()
	digest.Write(v.secret[:])
	for _, text := range []string{hash, password} {
		fmt.Fprintf(digest, "%d:%s", len(text), text)
	}
	key := [32]byte(digest.Sum(nil))
	if v.remembers(key) {
		return true
	}
	v.slow.Lock()
	defer v.slow.Unlock()
	if v.remembers(key) {
		return true
	}
	if !sameOperatorPassword(hash, password) {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.right) >= maxRemembered {
		clear(v.right)
	}
	v.right[key] = true
	return true
}

func (v *OperatorVerifier) remembers(key [32]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.right[key]
}
