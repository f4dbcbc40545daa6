package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"ferry/internal/atomicfile"
	"ferry/internal/terminal"
)

// A resultFile is the file of --to-file. The result of a command is written to it instead of
// standard output. It is for secrets: only its owner may read it, whatever the umask is.
type resultFile struct {
	path   string
	result bytes.Buffer
	stdout io.Writer // the standard output that it replaces; nil if there is no file
}

func (f *resultFile) define(set *pflag.FlagSet) {
	textVar(set, &f.path, "to-file", "", "FILE",
		"write the result to this file, which only you can read, instead of showing it")
}

// open reports whether results are written to the file.
func (f *resultFile) open() bool { return f.stdout != nil }

// begin redirects e's results to the file. If the file could not be written, it returns an
// error before the command runs, because the command may make a password that is shown
// only once.
func (f *resultFile) begin(e *Env) error {
	if f.path == "" {
		return nil
	}
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("--to-file: %w", err)
	case !info.Mode().IsRegular():
		return usagef("--to-file %s: not a regular file", f.path)
	}
	try, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+"-*")
	if err != nil {
		return withHint(fmt.Errorf("--to-file: %w", err),
			"nothing was done; name a file in a directory that you may write to")
	}
	f.stdout, e.Stdout = e.Stdout, &f.result
	return errors.Join(try.Close(), os.Remove(try.Name()))
}

// close writes the file. If it cannot, it shows the result on standard output.
func (f *resultFile) close(e *Env) error {
	if !f.open() {
		return nil
	}
	e.Stdout = f.stdout
	if err := atomicfile.Write(f.path, f.result.Bytes()); err != nil {
		_, showErr := e.Stdout.Write(f.result.Bytes())
		return errors.Join(fmt.Errorf("--to-file: %w", err), showErr)
	}
	fmt.Fprintf(e.Stderr, "saved in %s, which only you can read\n", terminal.Printable(f.path))
	return nil
}
