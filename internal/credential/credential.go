// Package credential keeps the means with which a connected registry logs in to its parent: the
// connection string that its operator gave it, and the passwords that it made itself. They are in one
// encrypted file of the data directory. Begin with [Store]: [Store.Login] returns the login to try,
// [Store.Accepted] and [Store.Refused] receive the parent's answer. rotation.go has the passwords that
// the registry makes itself.
package credential

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ferry/internal/atomicfile"
	"ferry/internal/auth"
	"ferry/internal/seal"
	"ferry/internal/wire"
)

// The files in the data directory.
const (
	File    = "parent-login"     // the encrypted credentials
	KeyFile = "parent-login.key" // their key
)

// Options are the parts of a Store. DataDir is required.
type Options struct {
	DataDir string
	// Identity is unique for each instance. It decides at which time of an interval a password is
	// replaced.
	Identity string
	Log      *slog.Logger     // nil discards
	Now      func() time.Time // nil is time.Now
}

// A Store keeps the credentials of one connected registry. It is safe for concurrent use.
type Store struct {
	path     string
	key      *seal.Key
	identity string
	log      *slog.Logger
	now      func() time.Time

	mu      sync.Mutex
	saved   saved
	refused map[string]bool // hashes of secrets that the parent refused since it last accepted one
	// ownRefused reports that the parent refused the secret of the connection string since that is in force.
	ownRefused bool
	warned     bool          // that saving failed
	changed    chan struct{} // closed when the parent next accepts or refuses a login
}

// saved is the content of the file.
type saved struct {
	// Connection is the connection string in force, as the operator gave it.
	Connection string `json:"connection"`
	// Configured is the hash of the connection string in the settings that was last read. Connection
	// is another one after [Store.Set].
	Configured string `json:"configured,omitempty"`
	// Answered is the hash of Connection's password or join token, once it need not be tried first
	// any more: the parent has accepted it, or has refused it and accepted another password.
	Answered string `json:"answered,omitempty"`

	Current string `json:"current,omitempty"` // the password that the parent accepted last
	// Next is a password that this registry has made, and that the parent did not accept yet.
	Next string `json:"next,omitempty"`
	// NextIsOf is the hash of the join token for which Next was made; "" is a rotation.
	NextIsOf string    `json:"nextIsOf,omitempty"`
	Since    time.Time `json:"since,omitzero"` // when the parent first said that it accepts new passwords

	Announced string `json:"announced,omitempty"` // another endpoint, which the parent announced
	// Known are the passwords of the sync token as the root last had them.
	Known []wire.Password `json:"known,omitempty"`
}

// Open opens the credentials in a data directory. Credentials that cannot be read are as good as
// none: the connection string is used, and the log says so.
func Open(o Options) (*Store, error) {
	s := &Store{
		path: filepath.Join(o.DataDir, File), identity: o.Identity, now: o.Now, refused: map[string]bool{},
		changed: make(chan struct{}), log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if s.key, err = seal.OpenKey(o.DataDir, KeyFile); err != nil {
		return nil, fmt.Errorf("open credentials: %w", err)
	}
	switch s.saved, err = read(s.key, s.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.log.Warn("stored credentials cannot be read; the connection string is used instead", "path", s.path,
			"err", err)
	}
	return s, nil
}

// Connection returns the connection string that is stored in a data directory, without opening
// anything else there; nil is none, or one with which the parent has accepted no login yet.
func Connection(dataDir string) (*wire.ConnectionString, error) {
	path := filepath.Join(dataDir, File)
	for _, p := range []string{path, filepath.Join(dataDir, KeyFile)} {
		if _, err := os.Stat(p); err != nil {
			return nil, nil // the start of the instance says what is wrong with the directory
		}
	}
	key, err := seal.OpenKey(dataDir, KeyFile)
	if err != nil {
		return nil, err
	}
	v, err := read(key, path)
	if err != nil || v.Connection == "" || v.Current == "" {
		return nil, err
	}
	c, err := wire.ParseConnectionString(v.Connection)
	return &c, err
}

// purpose binds the encrypted file to its use.
const purpose = "login at the parent"

func read(key *seal.Key, path string) (v saved, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return saved{}, err
	}
	plain, err := key.Decrypt(purpose, strings.TrimSpace(string(text)))
	if err == nil {
		err = json.Unmarshal([]byte(plain), &v)
	}
	if err != nil {
		return saved{}, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

// save writes the file, which then survives a power loss. The caller holds the lock.
func (s *Store) save() error {
	text, err := json.Marshal(s.saved)
	if err == nil {
		err = atomicfile.Write(s.path, []byte(s.key.Encrypt(purpose, string(text))+"\n"))
	}
	switch {
	case err == nil:
		s.warned = false
	case !s.warned:
		s.warned = true
		s.log.Error("credentials for the parent are not saved", "path", s.path, "err", err)
	}
	return err
}

// hash identifies a secret. It is the form in which the root stores a password.
func hash(secret string) string {
	if secret == "" {
		return ""
	}
	return auth.HashPassword(secret)
}

// Configure sets the connection string of the settings. If it is another one than the last time, it
// is in force from now on, and its password is tried first. It reports whether it is another one.
func (s *Store) Configure(c wire.ConnectionString) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saved.Configured == hash(c.Secret()) && s.saved.Connection != "" {
		return false
	}
	s.saved.Configured = hash(c.Secret())
	s.use(c)
	return true
}

// Set puts a connection string in force that an operator gave to the running instance. Its password
// is tried first, even if it was refused before.
func (s *Store) Set(c wire.ConnectionString) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved.Answered = ""
	s.use(c)
}

func (s *Store) use(c wire.ConnectionString) {
	s.saved.Connection, s.ownRefused = c.Secret(), false
	clear(s.refused)
	s.save() // if it fails, the connection string is read again after a restart
}

// connection returns the connection string in force.
func (s *Store) connection() wire.ConnectionString {
	c, _ := wire.ParseConnectionString(s.saved.Connection) // it was parsed before
	return c
}

// own returns the password or the join token of a connection string.
func own(c wire.ConnectionString) string { return cmp.Or(c.Password, c.JoinToken) }

// isOffered reports whether the connection string has a password or a join token that must be tried
// before the stored passwords.
func (s *Store) isOffered(c wire.ConnectionString) bool {
	return own(c) != "" && hash(own(c)) != s.saved.Answered
}

// secrets returns the passwords and join tokens to try, in order.
func (s *Store) secrets(c wire.ConnectionString) []string {
	var all []string
	add := func(secret string) {
		if secret != "" && !slices.Contains(all, secret) {
			all = append(all, secret)
		}
	}
	if s.isOffered(c) {
		add(own(c))
	}
	if s.isKnown(s.saved.Next) {
		add(s.saved.Next)
	}
	add(s.saved.Current)
	if s.saved.NextIsOf == "" { // else only the exchange of the join token makes it valid
		add(s.saved.Next)
	}
	add(own(c))
	return all
}

// InForce returns the connection string that the operator gave last, with its password or join token.
func (s *Store) InForce() wire.ConnectionString {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connection()
}

// InUse returns the connection string with the password that the parent accepted last, and with the announced
// endpoint behind its own, and a channel that is closed when it may have changed. It has no password before the
// parent has accepted a login with the connection string in force.
func (s *Store) InUse() (wire.ConnectionString, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.connection()
	secret := s.saved.Current
	if s.isOffered(c) && own(c) != secret {
		secret = ""
	}
	c.Password, c.JoinToken = secret, ""
	return s.withAnnounced(c), s.changed
}

// Login returns the connection string with the password to try now, or with the join token to
// exchange, and with the announced endpoint behind its own.
func (s *Store) Login() wire.ConnectionString {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.login()
}

func (s *Store) login() wire.ConnectionString {
	c := s.connection()
	secret, join := own(c), c.JoinToken
	for _, candidate := range s.secrets(c) {
		if !s.refused[hash(candidate)] {
			secret = candidate
			break
		}
	}
	c.Password, c.JoinToken = secret, ""
	if join != "" && secret == join {
		c.Password, c.JoinToken = "", join
	}
	return s.withAnnounced(c)
}

func (s *Store) withAnnounced(c wire.ConnectionString) wire.ConnectionString {
	if a := s.saved.Announced; a != "" && !slices.Contains(c.Endpoints(), a) {
		c.Endpoint += "," + a
	}
	return c
}

// Accepted records that the parent accepted a login.
func (s *Store) Accepted(login wire.ConnectionString) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.saved
	c := s.connection()
	switch login.Password {
	case "":
		return // a join token is exchanged by [Store.Joined]
	case s.saved.Current:
	case s.saved.Next:
		s.saved.Current, s.saved.Next, s.saved.NextIsOf = s.saved.Next, "", ""
		s.log.Info("the parent accepts the new password of this registry")
	case own(c):
		if s.saved.Current != "" && !s.isOffered(c) {
			s.log.Warn("the stored password is refused; that of the connection string is used again")
		}
		s.saved.Current, s.saved.Next, s.saved.NextIsOf = login.Password, "", ""
	default:
		return // it was replaced meanwhile
	}
	if secret := own(c); login.Password == secret || s.refused[hash(secret)] {
		s.saved.Answered = hash(secret)
	}
	clear(s.refused)
	if s.saved.Current != before.Current || s.saved.Next != before.Next || s.saved.Answered != before.Answered {
		s.save()
	}
	s.announceChange()
}

// Refused records that the parent refused a login. It reports whether [Store.Login] has another one to
// try now. If there is none, the next try begins with the first again.
func (s *Store) Refused(login wire.ConnectionString) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[hash(own(login))] = true
	c := s.connection()
	s.ownRefused = s.ownRefused || own(login) == own(c)
	s.announceChange()
	for _, secret := range s.secrets(c) {
		if !s.refused[hash(secret)] {
			return true
		}
	}
	clear(s.refused)
	return false
}

func (s *Store) announceChange() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// A State says what the parent answered to the password or the join token of the connection string in
// force.
type State int

// The states of a connection string.
const (
	Untried State = iota
	Accepted
	Refused
)

// State returns the state of the connection string in force, and a channel that is closed when it may
// have changed.
func (s *Store) State() (State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ownRefused:
		return Refused, s.changed
	case s.saved.Answered == hash(own(s.connection())):
		return Accepted, s.changed
	}
	return Untried, s.changed
}

// Announce stores another endpoint of the parent, which the parent announced. The previous one is
// forgotten. An address that is not valid is ignored.
func (s *Store) Announce(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if endpoint == "" || endpoint == s.saved.Announced || wire.CheckEndpoint(endpoint) != nil ||
		strings.Contains(endpoint, ",") {
		return
	}
	s.saved.Announced = endpoint
	s.save()
	s.log.Info("the parent announces another address, which is tried if no other one answers", "endpoint", endpoint)
}
