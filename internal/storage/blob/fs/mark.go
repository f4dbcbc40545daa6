package fs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ferry/internal/atomicfile"
	"ferry/internal/storage/blob"
)

var _ blob.Marked = (*Store)(nil)

// markFile is the file with the mark. It is beside the blobs, so that copies of the directory have it.
const markFile = "blobs/store-id"

// MarkOf returns the mark of the store below root, which need not exist; "" is none.
func MarkOf(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(markFile)))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read mark of the blob store: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Mark implements [blob.Marked].
func (s *Store) Mark(context.Context) (string, error) { return MarkOf(s.root) }

// KeepMark implements [blob.Marked]. One process at a time uses the directory.
func (s *Store) KeepMark(ctx context.Context, mark string) (string, error) {
	old, err := MarkOf(s.root)
	if err != nil || old != "" {
		return old, err
	}
	return mark, s.SetMark(ctx, mark)
}

// SetMark implements [blob.Marked].
func (s *Store) SetMark(_ context.Context, mark string) error {
	path := filepath.Join(s.root, filepath.FromSlash(markFile))
	if err := atomicfile.Write(path, []byte(mark+"\n")); err != nil {
		return fmt.Errorf("write mark of the blob store: %w", err)
	}
	return nil
}
