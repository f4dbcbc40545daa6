package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A login is a registry that was saved by `ferry login`.
type login struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
}

// logins are the saved registries by name. They live in one JSON file, which
// only its owner can read, since the passwords are in it.
type logins map[string]login

var loginName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// checkLoginName accepts what cannot be mistaken for an address.
func checkLoginName(name string) error {
	if loginName.MatchString(name) {
		return nil
	}
	return usagef("%q is not a name for a registry: want letters, digits, - and _", clip(name))
}

// find returns the login saved under name, whose case does not matter.
func (l logins) find(name string) (login, bool) {
	if found, ok := l[name]; ok {
		return found, true
	}
	for n, found := range l {
		if strings.EqualFold(n, name) {
			return found, true
		}
	}
	return login{}, false
}

// configFile returns where the logins are: in $FERRY_CONFIG_DIR, or where the
// system keeps a user's configuration.
func (e *Env) configFile() (string, error) {
	dir := e.Getenv("FERRY_CONFIG_DIR")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", withHint(fmt.Errorf("find the configuration directory: %w", err), "set FERRY_CONFIG_DIR")
		}
		dir = filepath.Join(base, "ferry")
	}
	return filepath.Join(dir, "registries.json"), nil
}

// loadLogins reads the saved logins; none were saved is no error.
func (e *Env) loadLogins() (logins, error) {
	path, err := e.configFile()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return logins{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read saved registries: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read saved registries: %w", err)
	}
	all := logins{}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &all); err != nil {
		return nil, withHint(fmt.Errorf("read saved registries %s: %v", path, err), "remove the file and log in again")
	}
	return all, nil
}

// save replaces the file in one step, so that a cut leaves the old or the new.
func (e *Env) saveLogins(all logins) error {
	path, err := e.configFile()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save registry: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".registries-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save registry: %w", err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save registry: %w", err)
	}
	return nil
}
