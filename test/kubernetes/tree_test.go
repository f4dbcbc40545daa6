//go:build kubernetes

package kubernetes

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
)

// files describes the files of the node's /etc: for each path its kind, rights, owner and
// content.
func (n *node) files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(n.disk, "etc"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		content := ""
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = digest.FromBytes(text).String()
		case info.Mode()&fs.ModeSymlink != 0:
			if content, err = os.Readlink(path); err != nil {
				return err
			}
		}
		rel, err := filepath.Rel(n.disk, path)
		if err != nil {
			return err
		}
		found["/"+rel] = fmt.Sprintf("%s %d:%d %s", info.Mode(), owner.Uid, owner.Gid, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
