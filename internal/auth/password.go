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

// The prefixes make passwords of tokens and API keys recognisable to scanners for leaked secrets.
const (
	passwordPrefix = "ferry_"
	keyPrefix      = passwordPrefix + "key_"
)

// A password or key consists of its prefix, 32 random bytes in base62, and a checksum in base62. By the
// checksum a scanner tells a password from similar text.
const (
	passwordBytes  = 32
	passwordDigits = 43 // of 32 bytes in base62
	checksumDigits = 6  // of 32 bits in base62
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// GeneratePassword returns a new machine password with 256 bits from random.
func GeneratePassword(random io.Reader) (string, error) { return generate(random, passwordPrefix) }

// GenerateAPIKey returns a new API key of an operator with 256 bits from random.
func GenerateAPIKey(random io.Reader) (string, error) { return generate(random, keyPrefix) }

func generate(random io.Reader, prefix string) (string, error) {
	raw := make([]byte, passwordBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", err
	}
	body := prefix + encode62(new(big.Int).SetBytes(raw), passwordDigits)
	return body + checksum(body), nil
}

// isMachinePassword reports whether [GeneratePassword] may have generated a text. Such a password
// cannot be guessed.
func isMachinePassword(text string) bool { return isGenerated(text, passwordPrefix) }

// IsAPIKey reports whether [GenerateAPIKey] may have generated a text.
func IsAPIKey(text string) bool { return isGenerated(text, keyPrefix) }

func isGenerated(text, prefix string) bool {
	body := len(text) - checksumDigits
	return body == len(prefix)+passwordDigits && strings.HasPrefix(text, prefix) &&
		text[body:] == checksum(text[:body])
}

func checksum(body string) string {
	return encode62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body)))), checksumDigits)
}

// HoldsPassword reports whether text contains a machine password, or what looks like its beginning.
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

// HashPassword returns the stored form of a machine password or an API key: its SHA-256 in hex. A slow hash would
// add nothing, because the password has too many bits to be guessed.
func HashPassword(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// SamePassword reports whether password has the hash, in constant time.
func SamePassword(hash, password string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(HashPassword(password))) == 1
}

// Generation returns an identifier of a password, given its stored form. A signed token contains
// the generation of the password with which it was requested, and is valid only as long as that
// password is. Neither the password nor its stored form can be computed from the generation.
func Generation(stored string) string {
	sum := sha256.Sum256([]byte("generation " + stored))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
