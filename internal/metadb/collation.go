package metadb

import (
	"bytes"
	"io"
	"io/fs"
)

// withoutCollation is a file system whose files lack the words COLLATE "C",
// which SQLite neither knows nor needs.
type withoutCollation struct{ fs.FS }

func (w withoutCollation) Open(name string) (fs.File, error) {
	f, err := w.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if _, ok := f.(fs.ReadDirFile); ok {
		return f, nil
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return &file{File: f, Reader: bytes.NewReader(bytes.ReplaceAll(text, []byte(` COLLATE "C"`), nil))}, nil
}

type file struct {
	fs.File
	*bytes.Reader
}

func (f *file) Read(p []byte) (int, error) { return f.Reader.Read(p) }
