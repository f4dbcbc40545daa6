package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"ferry/internal/storage/blob"
)

var _ blob.Marked = (*Store)(nil)

// markKey is the key of the object with the mark.
const markKey = "store-id"

// Mark implements [blob.Marked].
func (s *Store) Mark(ctx context.Context) (string, error) {
	content, _, err := s.get(ctx, markKey, maxIdentity)
	if err != nil && !errors.Is(err, blob.ErrNotExist) {
		return "", fmt.Errorf("read mark of the blob store: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// KeepMark implements [blob.Marked]. Of several processes at once, one sets its mark.
func (s *Store) KeepMark(ctx context.Context, mark string) (string, error) {
	if old, err := s.Mark(ctx); err != nil || old != "" {
		return old, err
	}
	if err := s.putMark(ctx, mark, ifAbsent); err != nil && !errors.Is(err, errCondition) {
		return "", err
	}
	return s.Mark(ctx)
}

// SetMark implements [blob.Marked].
func (s *Store) SetMark(ctx context.Context, mark string) error { return s.putMark(ctx, mark, always) }

func (s *Store) putMark(ctx context.Context, mark string, c condition) error {
	if _, err := s.put(ctx, markKey, bytesOf([]byte(mark+"\n")), c, nil); err != nil {
		return fmt.Errorf("write mark of the blob store: %w", err)
	}
	return nil
}
