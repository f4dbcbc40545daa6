package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of an operator's password: among the settings that OWASP's cheat sheet on password
// storage calls equally strong, the one with the least memory. A connected registry has 64 MiB for
// everything, and the garbage collector allows the heap to double while a password is checked.
const (
	argonTime    = 5
	argonMemory  = 7 << 10 // KiB
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
)

// HashOperatorPassword returns the stored form of an operator's password: argon2id in the PHC
// string format.
func HashOperatorPassword(password string) string {
	salt := make([]byte, argonSalt)
	rand.Read(salt) // it never fails
	return phc(argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey), salt)
}

// phc returns a key and its salt in the PHC string format.
func phc(key, salt []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// sameOperatorPassword reports whether password has the hash. It refuses a hash that asks for more
// than a few times the usual cost.
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
	if memory == 0 || memory > 8*argonMemory || time == 0 || time > 8*argonTime || threads == 0 {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil || len(salt) > 4*argonSalt {
		return false
	}
	key, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(key) == 0 || len(key) > 2*argonKey {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, time, memory, threads, uint32(len(key)))
	return subtle.ConstantTimeCompare(key, got) == 1
}

// An OperatorVerifier checks the passwords of operators. The check is slow and takes memory on
// purpose. Therefore one check runs at a time, and verified passwords are cached while the process
// runs.
type OperatorVerifier struct {
	slow   chan struct{} // holds one value while a check runs
	right  *passwordCache
	nobody string // a hash of no password
}

// NewOperatorVerifier returns a verifier with an empty cache.
func NewOperatorVerifier() *OperatorVerifier {
	key := make([]byte, argonKey)
	rand.Read(key) // it never fails
	return &OperatorVerifier{slow: make(chan struct{}, 1), right: newPasswordCache(), nobody: phc(key, key[:argonSalt])}
}

// RefuseUnknown refuses a name that no operator has. It takes as long as [OperatorVerifier.Same]
// with a wrong password, so that the time does not tell which names exist.
func (v *OperatorVerifier) RefuseUnknown(ctx context.Context, password string) error {
	_, err := v.Same(ctx, v.nobody, password)
	if err == nil {
		err = ErrUnauthenticated
	}
	return err
}

// Same reports whether password has the hash of [HashOperatorPassword]. It waits until no other
// check runs. The only error is that ctx ends first.
func (v *OperatorVerifier) Same(ctx context.Context, hash, password string) (bool, error) {
	if v.right.has(hash, password) {
		return true, nil
	}
	select {
	case v.slow <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-v.slow }()
	if v.right.has(hash, password) {
		return true, nil
	}
	same := sameOperatorPassword(hash, password)
	if same {
		v.right.set(hash, password, true)
	}
	return same, nil
}
