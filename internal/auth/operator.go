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

// The cost of a person's password: of the settings that OWASP's cheat sheet on
// password storage holds to be equally strong, the one with the least memory.
// A connected registry has 64 MiB for all that it does, and the collector lets
// the heap grow to twice what is live while a password is checked.
const (
	argonTime    = 5
	argonMemory  = 7 << 10 // KiB
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
)

// HashOperatorPassword returns what is stored of a person's password:
// argon2id in the PHC string format.
func HashOperatorPassword(password string) string {
	salt := make([]byte, argonSalt)
	rand.Read(salt) // it never fails
	return phc(argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey), salt)
}

// phc is a key and its salt in the PHC string format.
func phc(key, salt []byte) string {
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

// An OperatorVerifier checks people's passwords. The check is slow and takes
// memory on purpose; so one runs at a time, and a password that was right is
// remembered, by a digest with a secret key, for as long as the process lives.
type OperatorVerifier struct {
	slow   chan struct{} // holds one value while a check runs
	right  *proven
	nobody string // a hash that no password has
}

// NewOperatorVerifier returns a verifier that remembers nothing yet.
func NewOperatorVerifier() *OperatorVerifier {
	key := make([]byte, argonKey)
	rand.Read(key) // it never fails
	return &OperatorVerifier{slow: make(chan struct{}, 1), right: newProven(), nobody: phc(key, key[:argonSalt])}
}

// Nobody takes as long as [OperatorVerifier.Same] to find that a password is wrong,
// for a name that no operator has: how long a refusal takes must not tell whose
// names there are.
func (v *OperatorVerifier) Nobody(ctx context.Context, password string) error {
	_, err := v.Same(ctx, v.nobody, password)
	if err == nil {
		err = ErrUnauthenticated
	}
	return err
}

// Same reports whether password has the hash of [HashOperatorPassword]. It
// waits for its turn, unless ctx ends first, which is the only error.
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
