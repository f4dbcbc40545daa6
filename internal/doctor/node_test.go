package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"ferry/internal/noderuntime"
)

func TestRuntimesOfANodeAreJudged(t *testing.T) {
	row := func(kind noderuntime.Kind, before string, live bool) noderuntime.Row {
		for _, r := range noderuntime.Table() {
			if r.Runtime == kind && r.Live == live && (before == "" || r.Before == before) {
				return r
			}
		}
		t.Fatalf("no row for %s", kind)
		return noderuntime.Row{}
	}
	live := noderuntime.Runtime{Row: row(noderuntime.Containerd, "", true), Version: "2.4.2"}
	restart := noderuntime.Runtime{Row: row(noderuntime.Containerd, "2.2", false), Version: "1.6.20"}
	broken := live
	broken.Problems = []string{"read /etc/containerd/config.toml: line 3"}
	files := []string{"/etc/containerd/certs.d/edge.example/hosts.toml"}
	for _, test := range []struct {
		name       string
		runtime    noderuntime.Runtime
		configured noderuntime.Configured
		err        error
		status     Status
		parts      []string
	}{
		{"configured", live, noderuntime.Configured{Files: files}, nil, OK,
			[]string{"2.4.2, config_path with one directory", "next pull", "ferry client restore containerd"}},
		{"not configured", live, noderuntime.Configured{}, nil, Warn, []string{"not configured", "client configure"}},
		{"two roots", live, noderuntime.Configured{Files: files, MissingLink: "/a:/b"}, nil, Fail,
			[]string{"several directories for one name", "link at /a:/b"}},
		{"two roots, and files of others", live, noderuntime.Configured{MissingLink: "/a:/b"}, nil, Fail, nil},
		{"changed", live, noderuntime.Configured{Files: files, Changed: files}, nil, Warn,
			[]string{"1 of 1 files", files[0]}},
		{"needs a restart", restart, noderuntime.Configured{Files: files}, nil, Warn, []string{"systemctl restart"}},
		{"broken configuration", broken, noderuntime.Configured{Files: files}, nil, Warn, []string{"line 3"}},
		{"not readable", live, noderuntime.Configured{}, fs.ErrPermission, Fail, []string{"as root"}},
		{"damaged state", live, noderuntime.Configured{}, errors.New("it is damaged"), Fail, []string{"damaged"}},
		{"Talos", noderuntime.Runtime{Row: row(noderuntime.Talos, "", false)}, noderuntime.Configured{}, nil, Skipped,
			nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := judgeRuntime(test.runtime, test.configured, test.err)
			expect(t, got, test.status, test.parts...)
			if got.Runtime == nil || got.Runtime.Undo == "" {
				t.Errorf("the row is %+v", got.Runtime)
			}
		})
	}
}

func TestNodeIsFoundWhereItIsMounted(t *testing.T) {
	root := t.TempDir()
	empty := Run(t.Context(), NewNode(t.Context(), &noderuntime.Node{Root: root}))
	if len(empty) != 1 || len(empty[0].Checks) != 1 || empty[0].Checks[0].Status != Warn {
		t.Errorf("%+v", empty)
	}
	if err := os.MkdirAll(filepath.Join(root, "etc/containerd"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := &noderuntime.Node{Root: root, Version: "2.4.2"}
	settings := &noderuntime.Settings{Endpoint: "http://127.0.0.1:1", Username: "node1", Password: "geheim"}
	if err := settings.Check(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Configure(t.Context(), n.Detect(t.Context()), settings); err != nil {
		t.Fatal(err)
	}
	node := NewNode(t.Context(), n)
	found := Run(t.Context(), node)
	if len(found) != 1 || len(found[0].Checks) != 1 || found[0].Checks[0].Status != OK ||
		found[0].Checks[0].Check != "containerd" {
		t.Errorf("%+v", found)
	}
	if e := node.Endpoint(); e == nil || e.URL != "http://127.0.0.1:1" || e.Username != "node1" {
		t.Errorf("endpoint %+v", e)
	}
}
