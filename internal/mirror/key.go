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

// KeyFile is the file in the data directory with the key that encrypts the passwords of
// other registries. The key is not in the database, so that a copy of the database does
// not reveal the passwords.
const KeyFile = "mirror.key"

// keySize is the key size of AES-256, in bytes.
const keySize = 32

// A Key encrypts passwords so that only this instance can read them. Each encrypted
// password is bound to one registry: copied to the rule of another one, it is useless.
type Key struct{ aead cipher.AEAD }

// OpenKey reads the key in the data directory. If there is none, it creates one.
func OpenKey(dataDir string) (*Key, error) {
	path := filepath.Join(dataDir, KeyFile)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, keySize)
		rand.Read(key)
		err = atomicfile.Write(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("open password key: %w", err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("open password key: %s has %d bytes instead of %d", path, len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &Key{aead}, err
}

// Encrypt encrypts a password for the registry at l.
func (k *Key) Encrypt(l Location, password string) string {
	if password == "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k.aead.Seal(nil, nil, []byte(password), []byte(l.Address)))
}

// Decrypt decrypts a password for the registry at l.
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
			"the password for %s cannot be decrypted with the key of this data directory; set it again", l.Address)
	}
	return string(text), nil
}
