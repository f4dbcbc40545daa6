package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// A connected registry replaces the password of its own sync token. It asks its parent with each poll
// until its desired state has the new password, and parents pass that on to the root, which carries it
// out. So a request that is lost on the way, or a parent that restarts, delays it and does no more.

const (
	// rotationPause is the shortest time between two passwords that a connected registry makes.
	rotationPause = time.Hour
	// maxAsked is how many requests a connected registry passes on for all its descendants.
	maxAsked = 1000
)

// hexHash matches the stored form of a password.
var hexHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ChangePasswords carries out what the child name asks for, or remembers it for this instance's own
// parent. Implements [gateway.ControlPlane].
func (s *Service) ChangePasswords(ctx context.Context, name, from string, all []wire.PasswordChange) error {
	state := s.control.State()
	child, err := s.child(state, name)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(slices.Clone(all), func(p wire.PasswordChange) bool {
		r := state.Registry(p.Name)
		return r == nil || !hexHash.MatchString(p.Hash) || !slices.Contains(state.Ancestors(r.Name), child)
	})
	if s.control.Self() != "" {
		s.remember(child.Name, all)
		return nil
	}
	for _, p := range all {
		if p.Join != "" {
			err = s.acceptJoin(ctx, p, from)
		} else {
			err = s.rotate(ctx, p, from)
		}
		// The child asks again, unless its next desired state says why not.
		refused := errors.Is(err, gateway.ErrJoinRefused) || errors.Is(err, metadb.ErrNotFound)
		if err != nil && !refused {
			return err
		}
	}
	return nil
}

// remember keeps what a child asks for, in the place of what it asked for before.
func (s *Service) remember(child string, all []wire.PasswordChange) {
	child = strings.ToLower(child)
	s.mu.Lock()
	before := s.asked[child]
	n := len(all) - len(before)
	for _, asked := range s.asked {
		n += len(asked)
	}
	changed := !reflect.DeepEqual(before, all) && len(before)+len(all) > 0
	switch {
	case !changed, n > maxAsked:
	case len(all) == 0:
		delete(s.asked, child)
	default:
		s.asked[child] = all
	}
	s.mu.Unlock()
	if changed && len(all) > 0 {
		s.reports.changed.Notify()
	}
}

// PasswordChanges returns what the descendants of this instance ask its parent for.
func (s *Service) PasswordChanges() []wire.PasswordChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []wire.PasswordChange
	for _, p := range s.joined {
		all = append(all, p)
	}
	for _, asked := range s.asked {
		all = append(all, asked...)
	}
	slices.SortFunc(all, func(a, b wire.PasswordChange) int { return cmp.Compare(a.Name, b.Name) })
	return all[:min(len(all), wire.MaxPasswordChanges-1)] // one is left for this instance itself
}

// rotate sets the password that a connected registry has made, unless that could take away a password
// that somebody is about to use; see [auth.RotationSlot].
func (s *Service) rotate(ctx context.Context, p wire.PasswordChange, from string) error {
	r := s.control.State().Registry(p.Name)
	if r == nil {
		return nil
	}
	token := s.control.State().Token(r.SyncToken)
	if token == nil || !s.mayRotate(token.Token, p) {
		return nil
	}
	return s.control.Change(ctx, func(tx *metadb.Tx) error {
		row, err := tx.Token(r.SyncToken)
		if err != nil || !s.mayRotate(row, p) {
			return err
		}
		i := slices.IndexFunc(row.Passwords, func(o metadb.Password) bool { return o.Hash == p.Using })
		using := row.Passwords[i]
		slot, _ := auth.RotationSlot(wirePasswords(row.Passwords), p.Using, s.now())
		made := metadb.Password{Name: slot, Hash: p.Hash, CreatedAt: s.passwordTime(), Rotated: true}
		made.ExpiresAt = using.ExpiresAt // a limit that an operator set stays
		setPassword(&row, made)
		if err := tx.PutToken(row); err != nil {
			return err
		}
		by := control.Caller{Name: r.SyncToken, Sender: from}
		return s.control.Audit(tx, by, "rotate-password", "connected-registries/"+r.Name)
	})
}

// mayRotate reports whether a password may be set that a connected registry has made. It may not if it
// is there already.
func (s *Service) mayRotate(token metadb.Token, p wire.PasswordChange) bool {
	now := s.now()
	for _, have := range token.Passwords {
		age := now.Sub(have.CreatedAt)
		if have.Hash == p.Hash || have.Rotated && age >= 0 && age < rotationPause {
			return false
		}
	}
	_, ok := auth.RotationSlot(wirePasswords(token.Passwords), p.Using, now)
	return ok
}

// passwordTime returns the time of creation of a password.
func (s *Service) passwordTime() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// setPassword puts a password into its slot.
func setPassword(row *metadb.Token, p metadb.Password) {
	row.Passwords = slices.DeleteFunc(slices.Clone(row.Passwords), func(old metadb.Password) bool {
		return old.Name == p.Name
	})
	row.Passwords = append(row.Passwords, p)
	slices.SortFunc(row.Passwords, func(a, b metadb.Password) int { return cmp.Compare(a.Name, b.Name) })
}

func wirePasswords(all []metadb.Password) []wire.Password {
	passwords := []wire.Password{}
	for _, p := range all {
		passwords = append(passwords, wire.Password(p))
	}
	return passwords
}

// lastRotation returns when a connected registry last made the password of its sync token itself.
func lastRotation(token *control.Token) (last time.Time) {
	if token == nil {
		return last
	}
	for _, p := range token.Passwords {
		if p.Rotated && p.CreatedAt.After(last) {
			last = p.CreatedAt
		}
	}
	return last
}

// settingPasswords is the setting with what [Service.Apply] and [Service.Join] must know of the
// passwords after a restart.
const settingPasswords = "passwords-below"

// passwordsBelow is the state of a connected registry as a parent.
type passwordsBelow struct {
	// Accepted reports that the root accepts passwords that connected registries make.
	Accepted bool                           `json:"accepted,omitempty"`
	Joined   map[string]wire.PasswordChange `json:"joined,omitempty"` // as in [Service]
}

func readPasswordsBelow(tx *metadb.Tx) (v passwordsBelow, err error) {
	text, err := tx.Setting(settingPasswords)
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &v)
	}
	return v, err
}

func (v passwordsBelow) write(tx *metadb.Tx) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetSetting(settingPasswords, string(text))
}

// setPasswordsBelow makes v current after it was written.
func (s *Service) setPasswordsBelow(v passwordsBelow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Joined == nil {
		v.Joined = map[string]wire.PasswordChange{}
	}
	if s.accepts != v.Accepted {
		clear(s.desired)
	}
	s.accepts, s.joined = v.Accepted, v.Joined
}
