package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ferry/internal/atomicfile"
)

// An ExistsError is a file that exists with another content.
type ExistsError struct{ Path string }

// Error names the file.
func (e ExistsError) Error() string { return e.Path + " exists, and has another content" }

// Write writes the files into a directory, and makes the directory if there is none. It writes
// nothing if one of the files exists with another content, unless force is [Replace]. Files with
// secrets have mode 0600, others 0644. It returns the files whose owner it could not set, because
// only root may give files away.
func (p Plan) Write(dir string, force Force) (foreign []File, err error) {
	for _, f := range p.Files {
		path := filepath.Join(dir, f.Name)
		old, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("look for earlier files: %w", err)
		case string(old) != f.Text && force != Replace:
			return nil, ExistsError{path}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, f := range p.Files {
		path := filepath.Join(dir, f.Name)
		if err := atomicfile.Write(path, []byte(f.Text)); err != nil { // mode 0600
			return nil, fmt.Errorf("write %s: %w", path, err)
		}
		if !f.Secret {
			if err := os.Chmod(path, 0o644); err != nil {
				return nil, err
			}
		}
		if f.User != 0 && os.Chown(path, f.User, f.User) != nil {
			foreign = append(foreign, f)
		}
	}
	return foreign, nil
}

// Force says whether a file that exists may be replaced.
type Force int

// The values of [Force].
const (
	Keep    Force = iota // a file that exists with another content is an error
	Replace              // it is replaced
)
