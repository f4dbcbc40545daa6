package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"time"

	"ferry/internal/auth"
	"ferry/internal/wire"
)

const (
	// jitter is the part of an interval by which a registry replaces its password earlier than
	// others, and firstSpread the time over which a fleet replaces passwords that are overdue.
	jitter      = 5
	firstSpread = 24 * time.Hour
	// warnBefore is how long before the password in use expires the status says so.
	warnBefore = 7 * 24 * time.Hour
)

// SetKnown records the passwords of the sync token as the root has them, from the desired state; nil
// says that the parent, or the root, accepts no passwords that a registry makes.
func (s *Store) SetKnown(passwords []wire.Password) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reflect.DeepEqual(s.saved.Known, passwords) {
		return
	}
	s.saved.Known = slices.Clone(passwords)
	if s.saved.Since.IsZero() && len(passwords) > 0 {
		s.saved.Since = s.now().UTC()
	}
	s.save() // if it fails, they come again with the next change
}

// isKnown reports whether the root accepts a password, as far as this registry knows.
func (s *Store) isKnown(password string) bool {
	_, ok := s.known(password)
	return ok
}

// known returns a password of the sync token as the root has it.
func (s *Store) known(password string) (wire.Password, bool) {
	if password == "" {
		return wire.Password{}, false
	}
	i := slices.IndexFunc(s.saved.Known, func(p wire.Password) bool { return p.Hash == hash(password) })
	if i < 0 {
		return wire.Password{}, false
	}
	return s.saved.Known[i], true
}

// Change returns the change of the password to ask the root for; nil is none. If a new password is
// due, it makes one. The password is on disk before Change returns, so that no answer that is lost
// can lock the registry out. every is the interval; 0 is never.
func (s *Store) Change(every time.Duration) *wire.PasswordChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	using, ok := s.known(s.saved.Current)
	if !ok || every == 0 || s.isKnown(s.saved.Next) {
		return nil
	}
	if _, free := auth.RotationSlot(s.saved.Known, using.Hash, s.now()); !free {
		return nil
	}
	if s.saved.Next == "" || s.saved.NextIsOf != "" {
		if s.now().Before(s.due(using, every)) || s.makeNext("") != nil {
			return nil
		}
		s.log.Info("this registry has made a new password, and asks its parent to accept it")
	}
	return &wire.PasswordChange{Hash: hash(s.saved.Next), Using: using.Hash}
}

// makeNext makes and saves a new password, for a join token or for a rotation.
func (s *Store) makeNext(join string) error {
	made, err := auth.GeneratePassword(rand.Reader)
	if err != nil {
		return err
	}
	before := s.saved
	s.saved.Next, s.saved.NextIsOf = made, join
	if err = s.save(); err != nil {
		s.saved = before
	}
	return err
}

// due returns when the password in use must be replaced. The registries of a fleet do that at
// different times.
func (s *Store) due(using wire.Password, every time.Duration) time.Time {
	sum := sha256.Sum256([]byte(s.identity + using.Hash))
	part := func(d time.Duration) time.Duration {
		return time.Duration(float64(d) * float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32))
	}
	due := using.CreatedAt.Add(every - part(every/jitter))
	if first := s.saved.Since.Add(part(min(firstSpread, every))); due.Before(first) {
		return first
	}
	return due
}

// Detail returns what an operator must know of the password in use; nil is nothing.
func (s *Store) Detail(every time.Duration) *wire.StatusDetail {
	s.mu.Lock()
	defer s.mu.Unlock()
	using, ok := s.known(s.saved.Current)
	if !ok {
		return nil
	}
	if e := using.ExpiresAt; !e.IsZero() && s.now().Add(warnBefore).After(e) {
		return &wire.StatusDetail{
			Type: "Connection", Code: wire.PasswordExpires, Timestamp: e.Add(-warnBefore).UTC(),
			Description: fmt.Sprintf("%s, with which this registry logs in to its parent, expires at %s, and then "+
				"nothing is synced; make another one at the root (ferry token credential generate), and give it to "+
				"this registry (ferry connected-registry set-credentials)", using.Name, e.UTC().Format(time.RFC3339)),
		}
	}
	slot, free := auth.RotationSlot(s.saved.Known, using.Hash, s.now())
	if every == 0 || free || s.now().Before(s.due(using, every)) {
		return nil
	}
	return &wire.StatusDetail{
		Type: "Connection", Code: wire.RotationWaits, Timestamp: s.due(using, every).UTC(),
		Description: fmt.Sprintf("this registry does not replace its password, because an operator has made %s later "+
			"than the one in use; give that one to this registry (ferry connected-registry set-credentials), or "+
			"delete it at the root (ferry token credential delete)", slot),
	}
}

// Join returns the hash of the password that this registry has made for the join token of a login. The
// password is on disk before Join returns.
func (s *Store) Join(login wire.ConnectionString) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if join := hash(login.JoinToken); s.saved.Next == "" || s.saved.NextIsOf != join {
		if err := s.makeNext(join); err != nil {
			return "", fmt.Errorf("make a password: %w", err)
		}
	}
	return hash(s.saved.Next), nil
}

// Joined records that the parent has exchanged the join token of a login.
func (s *Store) Joined(login wire.ConnectionString) {
	s.mu.Lock()
	defer s.mu.Unlock()
	join := hash(login.JoinToken)
	if s.saved.NextIsOf != join {
		return // another connection string came meanwhile
	}
	s.saved.Current, s.saved.Next, s.saved.NextIsOf, s.saved.Answered = s.saved.Next, "", "", join
	clear(s.refused)
	s.save() // if it fails, the exchange is repeated after a restart
	s.log.Info("the join token is exchanged: this registry logs in with a password of its own")
	s.announceChange()
}
