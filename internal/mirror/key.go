package mirror

import (
	"fmt"

	"ferry/internal/seal"
)

// KeyFile is the file in the data directory with the key that encrypts the passwords of
// other registries.
const KeyFile = "mirror.key"

// A Key encrypts passwords so that only this instance can read them. Each encrypted
// password is bound to one registry: copied to the rule of another one, it is useless.
type Key struct{ *seal.Key }

// OpenKey reads the key in the data directory. If there is none, it creates one.
func OpenKey(dataDir string) (*Key, error) {
	key, err := seal.OpenKey(dataDir, KeyFile)
	return &Key{key}, err
}

// Encrypt encrypts a password for the registry at l.
func (k *Key) Encrypt(l Location, password string) string { return k.Key.Encrypt(l.Address, password) }

// Decrypt decrypts a password for the registry at l.
func (k *Key) Decrypt(l Location, encrypted string) (string, error) {
	text, err := k.Key.Decrypt(l.Address, encrypted)
	if err != nil {
		return "", fmt.Errorf(
			"the password for %s cannot be decrypted with the key of this data directory; set it again", l.Address)
	}
	return text, nil
}
