package auth

import (
	"slices"
	"time"

	"ferry/internal/wire"
)

// The names of a token's slots for passwords.
const (
	slot1 = "password1"
	slot2 = "password2"
)

// RotationSlot returns the slot for a new password that a connected registry has made, while it logs
// in with the password whose hash is inUse: the slot that does not have that one. ok is false if an
// operator has made the password there after the one in use, because somebody may be about to use it;
// or if the password in use is not valid any more.
func RotationSlot(passwords []wire.Password, inUse string, now time.Time) (slot string, ok bool) {
	using, ok := find(passwords, func(p wire.Password) bool { return p.Hash == inUse && isValid(p, now) })
	if !ok {
		return "", false
	}
	slot = slot1
	if using.Name == slot1 {
		slot = slot2
	}
	other, taken := find(passwords, func(p wire.Password) bool { return p.Name == slot })
	ok = !taken || other.Rotated || !isValid(other, now) || !other.CreatedAt.After(using.CreatedAt)
	return slot, ok
}

// JoinSlot returns the slot for the password of an instance that has exchanged a join token of the
// given time: an empty one, or else the one that a connected registry made itself, or that has
// expired, or that an operator made before the join token. ok is false if operators have made both
// later.
func JoinSlot(passwords []wire.Password, made, now time.Time) (slot string, ok bool) {
	var older []wire.Password
	for _, name := range []string{slot1, slot2} {
		p, taken := find(passwords, func(p wire.Password) bool { return p.Name == name })
		switch {
		case !taken, p.Rotated, !isValid(p, now):
			return name, true
		case !p.CreatedAt.After(made):
			older = append(older, p)
		}
	}
	if len(older) == 0 {
		return "", false
	}
	return slices.MinFunc(older, func(p, q wire.Password) int { return p.CreatedAt.Compare(q.CreatedAt) }).Name, true
}

func find(passwords []wire.Password, is func(wire.Password) bool) (wire.Password, bool) {
	if i := slices.IndexFunc(passwords, is); i >= 0 {
		return passwords[i], true
	}
	return wire.Password{}, false
}

// isValid reports whether a password has not expired.
func isValid(p wire.Password, now time.Time) bool {
	return p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt)
}
