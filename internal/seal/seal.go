// Package seal encrypts secrets that an instance must be able to read again, such as passwords for
// other registries. The key is in a file of the data directory, and not in the database, so that a
// copy of the database does not reveal the secrets. Begin with [OpenKey].
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ferry/internal/atomicfile"
)

// keySize is the key size of AES-256, in bytes.
const keySize = 32

// A Key encrypts secrets so that only this instance can read them. Each is bound to its purpose, such
// as a mirror rule: under another purpose it cannot be decrypted. A Key is safe for concurrent use.
type Key struct{ aead cipher.AEAD }

// OpenKey reads the key in a file of the data directory. If there is none, it creates one.
func OpenKey(dataDir, file string) (*Key, error) {
	path := filepath.Join(dataDir, file)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, keySize)
		rand.Read(key)
		err = atomicfile.Write(path, key)
	} else if err == nil {
		err = os.Chmod(path, 0o600) // others may have got the permission with a restored copy
	}
	if err != nil {
		return nil, fmt.Errorf("open password key: %w", err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("open password key: %s has %d bytes instead of %d", path, len(key), keySize)
	}
	return newKey(key)
}

// DeriveKey returns the key for a purpose that processes with the same secret have in common. The
// secret must be random.
func DeriveKey(secret []byte, purpose string) (*Key, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "ferry seal "+purpose, keySize)
	if err != nil {
		return nil, err
	}
	return newKey(key)
}

func newKey(key []byte) (*Key, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &Key{aead}, err
}

// Encrypt encrypts a secret for a purpose. "" stays "".
func (k *Key) Encrypt(purpose, secret string) string {
	if secret == "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k.aead.Seal(nil, nil, []byte(secret), []byte(purpose)))
}

// Decrypt decrypts a secret that was encrypted for the same purpose.
func (k *Key) Decrypt(purpose, encrypted string) (string, error) {
	if encrypted == "" {
		return "", nil
	}
	text, err := base64.StdEncoding.DecodeString(encrypted)
	if err == nil {
		text, err = k.aead.Open(nil, nil, text, []byte(purpose))
	}
	if err != nil {
		return "", err
	}
	return string(text), nil
}
