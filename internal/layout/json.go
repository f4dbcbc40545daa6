package layout

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"ferry/internal/oci"
)

// readJSON reads a file of at most the size of a manifest into v.
func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, oci.MaxManifestSize+1))
	if err != nil {
		return err
	}
	if len(text) > oci.MaxManifestSize {
		return fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), oci.MaxManifestSize)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s is not what it should be: %w", filepath.Base(path), err)
	}
	return nil
}

// writeJSON replaces a file in one step.
func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
