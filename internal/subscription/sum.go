package subscription

import (
	"crypto/sha256"
	"encoding/hex"
)

// A Sum is a checksum of a set of items: of what a parent lists, and of what its
// child has recorded. The order in which they are added does not matter. It finds
// mistakes, and is no protection against an attacker. The zero value is that of
// no item.
type Sum [8]byte

// Add adds an item, which must not have been added before.
func (s *Sum) Add(tag, digest, part string) {
	sum := sha256.Sum256([]byte(tag + "\x00" + digest + "\x00" + part))
	for i := range s {
		s[i] ^= sum[i]
	}
}

// String is the checksum in hex.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }
