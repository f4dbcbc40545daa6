package mirror

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ferry/internal/atomicfile"
)

// KeyFile is the key that encrypts passwords of other registries, in the data
// directory. It is not in the database, so that a copy of that gives none of
// them away.
const KeyFile = "mirror.key"

// keySize is that of AES-256, in bytes.
const keySize = 32

// A Key encrypts passwords so that only this instance can read them, each for
// one registry alone: a password that is copied to another registry's rule is of
// no use.
type Key struct{ aead cipher.AEAD }

// OpenKey returns the key of the data directory, which it makes at the first
// call.
func OpenKey(dataDir string) (*Key, error) {
	path := filepath.Join(dataDir, KeyFile)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, keySize)
		rand.Read(key)
		err = atomicfile.Write(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("open key of passwords: %w", err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("open key of passwords: %s has %d bytes, not %d", path, len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &Key{aead}, err
}

// Encrypt returns password as it may be stored, for the registry at l.
func (k *Key) Encrypt(l Location, password string) string {
	if password == "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k.aead.Seal(nil, nil, []byte(password), []byte(l.Address)))
}

// Decrypt returns the password that was encrypted for the registry at l.
func (k *Key) Decrypt(l Location, encrypted string) (string, error) {
	if encrypted == "" {
		return "", nil
	}
	text, err := base64.StdEncoding.DecodeString(encrypted)
	if err == nil {
		text, err = k.aead.Open(nil, nil, text, []byte(l.Address))
	}
	if err != nil {
		return "", fmt.Errorf(
			"the password for %s cannot be read with the key of this data directory; give it again", l.Address)
	}
	return string(text), nil
}
