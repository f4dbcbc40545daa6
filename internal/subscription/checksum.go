package subscription

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// A Checksum is a checksum of a set of items, with which a parent and its child compare a listing.
// It does not depend on the order of the items. It finds mistakes, and does not protect
// against an attacker. The zero value is the checksum of no items.
type Checksum [8]byte

// Add adds an item. Adding the same item twice removes it.
func (s *Checksum) Add(tag, digest, part string) {
	sum := sha256.Sum256([]byte(tag + "\x00" + digest + "\x00" + part))
	for i := range s {
		s[i] ^= sum[i]
	}
}

// AddLocks adds the locks of an item, or of the repository, whose name is "". What has no locks adds
// nothing.
func (s *Checksum) AddLocks(name string, locks int) {
	if locks != 0 {
		s.Add(name, strconv.Itoa(locks), "")
	}
}

// String returns the checksum in hexadecimal.
func (s Checksum) String() string { return hex.EncodeToString(s[:]) }
