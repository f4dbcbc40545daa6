package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
)

// passwordPrefix lets a scanner for leaked secrets recognise a password.
const passwordPrefix = "ferry_"

// A password is its prefix, the 32 random bytes in base62 and a checksum in
// base62, so that a scanner can tell a password from a word that looks like one.
const (
	passwordBytes  = 32
	passwordDigits = 43 // of 32 bytes in base62
	checksumDigits = 6  // of 32 bits in base62
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// GeneratePassword returns a new machine password with 256 bits from random.
func GeneratePassword(random io.Reader) (string, error) {
	raw := make([]byte, passwordBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", err
	}
	body := passwordPrefix + encode62(new(big.Int).SetBytes(raw), passwordDigits)
	return body + checksum(body), nil
}

// isMachinePassword reports whether a text is one that [GeneratePassword] may have
// made. Nobody can guess one that is right.
func isMachinePassword(text string) bool {
	body := len(text) - checksumDigits
	return body == len(passwordPrefix)+passwordDigits && strings.HasPrefix(text, passwordPrefix) &&
		text[body:] == checksum(text[:body])
}

func checksum(body string) string {
	return encode62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body)))), checksumDigits)
}

// HoldsPassword reports whether a machine password, or what looks like the
// beginning of one, is in text.
func HoldsPassword(text string) bool { return strings.Contains(text, passwordPrefix) }

func encode62(n *big.Int, digits int) string {
	text := make([]byte, digits)
	base, digit := big.NewInt(62), new(big.Int)
	for i := digits - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		text[i] = base62[digit.Int64()]
	}
	return string(text)
}

// HashPassword returns what is stored of a machine password: its SHA-256 in
// hex. It has too many bits to be guessed, so a slow hash would add nothing.
func HashPassword(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// SamePassword reports whether password has the hash, in constant time.
func SamePassword(hash, password string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(HashPassword(password))) == 1
}

// Generation names a password for as long as it is one, given what is stored
// of it. A signed token holds the generation of the password that it was got
// with, and ends with that password. Neither the password nor what is stored of
// it can be computed from its generation.
func Generation(stored string) string {
	sum := sha256.Sum256([]byte("generation " + stored))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
