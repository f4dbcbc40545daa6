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
)

// KeyFile is the key that seals passwords of other registries, in the data
// directory. It is not in the database, so that a copy of that gives none of
// them away.
const KeyFile = "mirror.key"

// keySize is that of AES-256, in bytes.
const keySize = 32

// A Sealer keeps passwords so that only this instance can read them, each for
// one registry alone: a password that is moved to another's rule is of no use.
type Sealer struct{ aead cipher.AEAD }

// OpenSealer returns the sealer of the data directory, whose key it makes at
// the first call.
func OpenSealer(dataDir string) (*Sealer, error) {
	path := filepath.Join(dataDir, KeyFile)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(path)
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
	return &Sealer{aead}, err
}

// makeKey writes a new key. One that a crash left half is never in its place.
func makeKey(path string) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	f, err := os.CreateTemp(filepath.Dir(path), KeyFile+".*") // which only its owner may read
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return key, os.Rename(f.Name(), path)
}

// Seal returns password, to be kept for the registry at l.
func (s *Sealer) Seal(l Location, password string) string {
	if password == "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(password), []byte(l.Address)))
}

// Open returns the password that was sealed for the registry at l.
func (s *Sealer) Open(l Location, sealed string) (string, error) {
	if sealed == "" {
		return "", nil
	}
	text, err := base64.StdEncoding.DecodeString(sealed)
	if err == nil {
		text, err = s.aead.Open(nil, nil, text, []byte(l.Address))
	}
	if err != nil {
		return "", fmt.Errorf("the password for %s cannot be read with the key of this data directory; give it again", l.Address)
	}
	return string(text), nil
}
