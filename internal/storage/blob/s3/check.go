package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"ferry/internal/storage/blob"
)

// identityKey is the key of the object with the id of the instance that owns the prefix.
const identityKey = "instance-id"

// checksDir is the prefix of the keys of the objects that a [Store.Check] writes.
const checksDir = "checks/"

// maxIdentity bounds the size of that object.
const maxIdentity = 1024

// ErrConditions is returned, wrapped, for an object store that ignores the conditions of writes.
var ErrConditions = errors.New("the object store ignores If-None-Match or If-Match when it writes")

// A NotOursError is the error for a prefix that belongs to another instance.
type NotOursError struct {
	Location Location
	Owner    string // "" if it has content, and no owner
}

// Error implements error.
func (e *NotOursError) Error() string {
	if e.Owner == "" {
		return fmt.Sprintf("%s has blobs, and no %s: it does not belong to this instance", e.Location, identityKey)
	}
	return fmt.Sprintf("%s belongs to instance %s", e.Location, e.Owner)
}

// Check returns nil if the store can be read and written, and honours the conditions of writes,
// without which two processes would destroy each other's content. It leaves nothing behind.
func (s *Store) Check(ctx context.Context) (err error) {
	key := checksDir + strings.ToLower(rand.Text())
	defer func() {
		if err != nil {
			err = fmt.Errorf("check blob store s3://%s/%s: %w", s.bucket, s.prefix, err)
		}
	}()
	etag, err := s.put(ctx, key, bytesOf([]byte("1")), ifAbsent, nil)
	if err != nil {
		return orRepeated(err)
	}
	defer func() { err = errors.Join(err, s.remove(context.WithoutCancel(ctx), key)) }()
	if _, err = s.put(ctx, key, bytesOf([]byte("2")), ifAbsent, nil); !errors.Is(err, errCondition) {
		return orIgnored(err)
	}
	if _, err = s.put(ctx, key, bytesOf([]byte("3")), ifMatches(etag), nil); err != nil {
		return orRepeated(err)
	}
	if _, err = s.put(ctx, key, bytesOf([]byte("4")), ifMatches(etag), nil); !errors.Is(err, errCondition) {
		return orIgnored(err)
	}
	content, _, err := s.get(ctx, key, 1)
	if err == nil && string(content) != "3" {
		err = ErrConditions
	}
	return err
}

// orRepeated returns the error of a write whose condition nobody else can have changed: the answer of the
// first try was lost, and the client repeated it.
func orRepeated(err error) error {
	if errors.Is(err, errCondition) {
		return fmt.Errorf("%w: a write was repeated: %w", blob.ErrUnavailable, err)
	}
	return err
}

func orIgnored(err error) error {
	if err == nil {
		return ErrConditions
	}
	return err
}

// Owner returns the id of the instance that the prefix belongs to; "" if it belongs to none.
// used reports whether there is a blob in it.
func (s *Store) Owner(ctx context.Context) (instance string, used bool, err error) {
	content, _, err := s.get(ctx, identityKey, maxIdentity)
	if err != nil && !errors.Is(err, blob.ErrNotExist) {
		return "", false, fmt.Errorf("read the owner of the blob store: %w", err)
	}
	found := errors.New("found")
	err = s.Walk(ctx, func(blob.Info) error { return found })
	if used = errors.Is(err, found); used {
		err = nil
	}
	return strings.TrimSpace(string(content)), used, err
}

// Claim makes the prefix belong to an instance. If it belongs to another one, or has content
// and no owner, the error is a [NotOursError].
func (s *Store) Claim(ctx context.Context, instance string) error {
	owner, used, err := s.Owner(ctx)
	switch {
	case err != nil || owner == instance:
		return err
	case owner != "" || used:
		return s.notOurs(owner)
	}
	_, err = s.put(ctx, identityKey, bytesOf([]byte(instance+"\n")), ifAbsent, nil)
	if !errors.Is(err, errCondition) {
		return err
	}
	if owner, _, err = s.Owner(ctx); err == nil && owner != instance { // another process was first
		err = s.notOurs(owner)
	}
	return err
}

// Adopt makes the prefix belong to an instance, whichever it belonged to.
func (s *Store) Adopt(ctx context.Context, instance string) error {
	_, err := s.put(ctx, identityKey, bytesOf([]byte(instance+"\n")), always, nil)
	return err
}

func (s *Store) notOurs(owner string) error {
	return &NotOursError{Location{s.bucket, strings.TrimSuffix(s.prefix, "/")}, owner}
}

// Reachable returns nil if the store answers.
func (s *Store) Reachable(ctx context.Context) error {
	_, err := s.head(ctx, identityKey)
	return err
}
