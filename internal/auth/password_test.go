package auth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"hash/crc32"
	"io"
	"regexp"
	"strings"
	"testing"

	"ferry/internal/auth"
)

func TestSecretScannersRecogniseAPassword(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		p, err := auth.GeneratePassword(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^ferry_[0-9A-Za-z]{49}$`).MatchString(p) || seen[p] {
			t.Fatalf("%q", p)
		}
		seen[p] = true
		var sum uint64
		for _, c := range p[len(p)-6:] {
			sum = sum*62 + uint64(strings.IndexRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
				c))
		}
		if want := crc32.ChecksumIEEE([]byte(p[:len(p)-6])); sum != uint64(want) {
			t.Errorf("checksum of %q: %d, want %d", p, sum, want)
		}
	}
	if _, err := auth.GeneratePassword(io.LimitReader(rand.Reader, 31)); err == nil {
		t.Error("a password was made from 31 bytes")
	}
	low, _ := auth.GeneratePassword(strings.NewReader(strings.Repeat("\x00", 32)))
	high, _ := auth.GeneratePassword(strings.NewReader(strings.Repeat("\xff", 32)))
	if len(low) != len(high) {
		t.Errorf("%q and %q differ in length", low, high)
	}
}

func TestMachinePasswordIsComparedWithItsHash(t *testing.T) {
	hash := auth.HashPassword("ferry_x")
	if strings.Contains(hash, "ferry_x") || !auth.SamePassword(hash, "ferry_x") || auth.SamePassword(hash, "ferry_y") ||
		auth.SamePassword("", "") {
		t.Error(hash)
	}
}

func TestOperatorPasswordIsComparedWithItsHash(t *testing.T) {
	hash := auth.HashOperatorPassword("correct horse")
	form := regexp.MustCompile(`^\$argon2id\$v=19\$m=7168,t=5,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`)
	if !form.MatchString(hash) {
		t.Errorf("%q is not a PHC string", hash)
	}
	if hash == auth.HashOperatorPassword("correct horse") {
		t.Error("two hashes have the same salt")
	}
	v := auth.NewOperatorVerifier()
	for _, test := range []struct {
		name, hash, password string
		want                 bool
	}{
		{"right", hash, "correct horse", true},
		{"right again", hash, "correct horse", true},
		{"wrong", hash, "correct house", false},
		{"none", hash, "", false},
		{"no hash", "", "correct horse", false},
		{"another kind of hash", "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "correct horse",
			false},
		{"a hash that wants all memory", strings.Replace(hash, "m=7168", "m=4194304", 1), "correct horse", false},
		{"a hash that wants no memory", strings.Replace(hash, "m=7168", "m=0", 1), "correct horse", false},
		{"a hash that takes forever", strings.Replace(hash, "t=5", "t=4000000", 1), "correct horse", false},
		{"a hash without threads", strings.Replace(hash, "p=1", "p=0", 1), "correct horse", false},
		{"a hash without a key", hash[:strings.LastIndex(hash, "$")+1], "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := v.Same(t.Context(), test.hash, test.password); got != test.want || err != nil {
				t.Errorf("%t, %v", got, err)
			}
		})
	}
}

func TestVerifiedPasswordIsNotHashedAgain(t *testing.T) {
	hash := auth.HashOperatorPassword("x")
	v := auth.NewOperatorVerifier()
	if ok, err := v.Same(t.Context(), hash, "x"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	allocated := testing.AllocsPerRun(10, func() { v.Same(t.Context(), hash, "x") })
	if allocated > 20 { // argon2id starts 20 goroutines, and more
		t.Errorf("%v allocations", allocated)
	}
}

func TestCancelledLoginDoesNotWaitForItsCheck(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	v := auth.NewOperatorVerifier()
	hash := auth.HashOperatorPassword("x")
	for range 100 { // a select with two ready cases chooses at random
		if _, err := v.Same(ctx, hash, "y"); errors.Is(err, gone) {
			return
		}
	}
	t.Error("no check was skipped")
}
