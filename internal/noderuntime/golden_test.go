package noderuntime

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// authority is the certificate that the tests trust.
func authority(t rapid.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each archive in testdata has settings, as lines "name: value" of its comment, the files of a
// node in before/, and golden files: the changed ones in after/, and the result.
func TestFilesOfEachRuntime(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before := ""
			for _, f := range a.Files {
				if name, ok := strings.CutPrefix(f.Name, "before/"); ok {
					before += fmt.Sprintf("-- %s --\n%s", name, f.Data)
				}
			}
			n := newNode(t, string(a.Comment)+before)
			runtime, s := settingsOf(t, n, string(a.Comment))
			old := tree(t, n)
			chosen, err := n.Choose(t.Context(), runtime, &s)
			if err != nil {
				t.Fatal(err)
			}
			preview, err := n.Preview(t.Context(), chosen, &s)
			if err != nil {
				t.Fatal(err)
			}
			results, err := n.Configure(t.Context(), chosen, &s)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(preview, results, cmp.AllowUnexported(Runtime{}, Row{})); diff != "" {
				t.Errorf("the preview differs (-preview +result):\n%s", diff)
			}
			now := tree(t, n)
			got := &txtar.Archive{Comment: a.Comment}
			for _, f := range a.Files {
				if strings.HasPrefix(f.Name, "before/") {
					got.Files = append(got.Files, f)
				}
			}
			for _, path := range changed(old, now) {
				text := strings.ReplaceAll(now[path], string(authority(t)), "(authority)\n")
				got.Files = append(got.Files, txtar.File{Name: "after" + path, Data: []byte(text)})
			}
			got.Files = append(got.Files, txtar.File{Name: "result", Data: []byte(describe(results))})
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(txtar.Format(a)), string(txtar.Format(got))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}

			again, err := n.Configure(t.Context(), mustChoose(t, n, runtime, &s), &s)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range again {
				if len(r.Changes) > 0 {
					t.Errorf("a second run changes %v", r.Changes)
				}
			}
			if diff := cmp.Diff(now, tree(t, n)); diff != "" {
				t.Errorf("a second run changes files (-first +second):\n%s", diff)
			}
			if _, err := n.Restore(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(old, tree(t, n)); diff != "" {
				t.Errorf("restored files differ (-before +restored):\n%s", diff)
			}
		})
	}
}

func mustChoose(t *testing.T, n *Node, runtime string, s *Settings) []Runtime {
	t.Helper()
	chosen, err := n.Choose(t.Context(), runtime, s)
	if err != nil {
		t.Fatal(err)
	}
	return chosen
}

// settingsOf reads settings from the comment of an archive.
func settingsOf(t *testing.T, n *Node, comment string) (runtime string, s Settings) {
	t.Helper()
	for line := range strings.Lines(comment) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		switch name {
		case "runtime":
			runtime = value
		case "version":
			n.Version = value
		case "endpoint":
			s.Endpoint = value
		case "host":
			s.Hosts = append(s.Hosts, value)
		case "mirror":
			registry, prefix, ok := strings.Cut(value, "=")
			s.Mirrors = append(s.Mirrors, registry)
			if ok {
				s.Prefixes = map[string]string{registry: prefix}
			}
		case "token":
			s.Username, s.Password, _ = strings.Cut(value, " ")
		case "with":
			s.NoUpstream = strings.Contains(value, "no-upstream")
			s.EditConfig = strings.Contains(value, "edit-config")
			if strings.Contains(value, "authority") {
				s.CA = authority(t)
			}
		default:
			t.Fatalf("the comment has a line %q", line)
		}
	}
	return runtime, s
}

// tree returns every file of a node, except Ferry's own state: its mode and content by path.
func tree(t rapid.TB, n *Node) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(n.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, n.Root)
		if name == DefaultState {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if name != "/var" && name != "/var/lib" { // for Ferry's own state
				all[name+"/"] = info.Mode().Perm().String() + "\n"
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[name] = "-> " + target + "\n"
			return err
		default:
			text, err := os.ReadFile(path)
			all[name] = info.Mode().Perm().String() + "\n" + string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// changed returns the files that are new or differ, in alphabetical order.
func changed(old, now map[string]string) []string {
	var all []string
	for path, text := range now {
		if old[path] != text && !strings.HasSuffix(path, "/") {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return all
}

func describe(results []Result) string {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%s: %s\n", r.Runtime.Runtime, r.Found)
		if r.Needed != "" {
			fmt.Fprintf(&b, "needed: %s\n", r.Needed)
		}
		for _, text := range slices.Concat(r.Problems, r.Notes) {
			fmt.Fprintf(&b, "note: %s\n", text)
		}
		for _, c := range r.Changes {
			fmt.Fprintf(&b, "%s %s\n%s", c.Action, c.Path, c.Diff)
		}
		b.WriteString(r.Objects)
	}
	return b.String()
}
