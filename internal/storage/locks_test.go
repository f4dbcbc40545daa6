package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// TestLockForbidsOnlyItsOperations tries all operations under each lock of a repository, of a
// tag and of a manifest.
func TestLockForbidsOnlyItsOperations(t *testing.T) {
	const tag = "v1"
	layer := digest.FromString("layer v1")
	m := digest.FromBytes(image(digest.FromString("config v1"), layer))
	actions := map[string]func(t *testing.T, f *fixture, a string) error{
		"pull tag": func(t *testing.T, f *fixture, a string) error {
			_, err := f.Manifest(t.Context(), a, tag)
			return err
		},
		"pull digest": func(t *testing.T, f *fixture, a string) error {
			_, err := f.Manifest(t.Context(), a, string(m))
			return err
		},
		"pull blob": func(t *testing.T, f *fixture, a string) error {
			r, _, err := f.OpenBlob(t.Context(), a, layer)
			if err == nil {
				r.Close()
			}
			return err
		},
		"push": func(t *testing.T, f *fixture, a string) error {
			d := f.push(t, a, []byte("more"))
			_, err := f.PutManifest(t.Context(),
				storage.Put{Repository: a, Payload: image(d, d), Tags: []string{"new"}})
			return err
		},
		"push tag": func(t *testing.T, f *fixture, a string) error {
			d := f.push(t, a, []byte("more"))
			_, err := f.PutManifest(t.Context(), storage.Put{Repository: a, Payload: image(d, d), Tags: []string{tag}})
			return err
		},
		"set tag": func(t *testing.T, f *fixture, a string) error {
			return f.SetTag(t.Context(), a, "other", m)
		},
		"delete tag": func(t *testing.T, f *fixture, a string) error { return f.DeleteTag(t.Context(), a, tag) },
		"delete manifest": func(t *testing.T, f *fixture, a string) error {
			return f.DeleteManifest(t.Context(), a, m)
		},
		"delete repository": func(t *testing.T, f *fixture, a string) error {
			return f.DeleteRepository(t.Context(), a)
		},
	}
	pulls := []string{"pull tag", "pull digest", "pull blob"}
	pushes := []string{"push", "push tag", "set tag"}
	deletions := []string{"delete tag", "delete manifest", "delete repository"}
	f, _, _ := onDisk(t)
	for i, tc := range []struct {
		name, reference string
		locks           storage.Locks
		denied          []string
	}{
		{"nothing", "", 0, nil},
		{"repository read", "", storage.NoRead, pulls},
		{"repository write", "", storage.NoWrite, append(pushes, deletions...)},
		{"repository delete", "", storage.NoDelete, deletions},
		{"repository list", "", storage.NoList, nil},
		{"tag read", tag, storage.NoRead, []string{"pull tag"}},
		{"tag write", tag, storage.NoWrite, append([]string{"push tag"}, deletions...)},
		{"tag delete", tag, storage.NoDelete, deletions},
		{"manifest read", string(m), storage.NoRead, []string{"pull tag", "pull digest"}},
		{"manifest write", string(m), storage.NoWrite, []string{"delete manifest", "delete repository"}},
		{"manifest delete", string(m), storage.NoDelete, []string{"delete manifest", "delete repository"}},
	} {
		denied := map[string]bool{}
		for _, action := range tc.denied {
			denied[action] = true
		}
		for action, do := range actions {
			t.Run(tc.name+"/"+action, func(t *testing.T) {
				repository := fmt.Sprintf("%d/%s", i, strings.ReplaceAll(action, " ", "-"))
				f.pushImage(t, repository, tag)
				if err := f.ChangeLocks(t.Context(), repository, tc.reference,
					storage.LockChange{Set: tc.locks}); err != nil {
					t.Fatal(err)
				}
				var want error
				if denied[action] {
					want = oci.ErrDenied
				}
				if err := do(t, f, repository); !errors.Is(err, want) {
					t.Errorf("%s = %v, want %v", action, err, want)
				}
			})
		}
	}
}

func TestListingsHideLockedContentAndFillThePage(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		for _, repository := range []string{"a", "b", "c"} {
			f.pushImage(t, repository, "v1")
		}
		for _, tag := range []string{"v2", "v3"} {
			f.pushImage(t, "a", tag)
		}
		for _, lock := range [][2]string{{"b", ""}, {"a", "v2"}} {
			if err := f.ChangeLocks(ctx, lock[0], lock[1], storage.LockChange{Set: storage.NoList}); err != nil {
				t.Fatal(err)
			}
		}
		repositories, err := f.Repositories(ctx, "", 2)
		if err != nil || len(repositories) != 2 || repositories[0].Name != "a" || repositories[1].Name != "c" {
			t.Errorf("Repositories = %v, %v; want a and c", repositories, err)
		}
		tags, err := f.Tags(ctx, "a", storage.TagOrder{}, "", 2)
		if err != nil || len(tags) != 2 || tags[0].Name != "v1" || tags[1].Name != "v3" {
			t.Errorf("Tags = %v, %v; want v1 and v3", tags, err)
		}
		if _, err := f.Manifest(ctx, "b", "v1"); err != nil {
			t.Errorf("a hidden repository can't be pulled: %v", err)
		}
		for _, lock := range [][2]string{{"none", ""}, {"a", "none"}, {"a", string(digest.FromString("none"))}} {
			if err := f.ChangeLocks(ctx, lock[0], lock[1],
				storage.LockChange{Set: storage.NoRead}); oci.AsError(err) == nil || oci.AsError(err).Status != 404 {
				t.Errorf("ChangeLocks%q = %v, want a 404", lock, err)
			}
		}
	})
}

func TestChangeOfLocksKeepsOthersAndIsAudited(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		m := f.pushImage(t, "a", "v1")
		lockOf := map[string]func() (storage.Locks, error){
			"": func() (storage.Locks, error) { r, err := f.Repository(ctx, "a"); return r.Locks, err },
			"v1": func() (storage.Locks, error) {
				tag, err := f.Tag(ctx, "a", "v1")
				return tag.Locks, err
			},
			string(m.Digest): func() (storage.Locks, error) {
				d, err := f.DescribeManifest(ctx, "a", m.Digest)
				return d.Locks, err
			},
		}
		refused := func(*metadb.Tx) error { return errors.New("not audited") }
		for reference, locks := range lockOf {
			for _, c := range []storage.LockChange{{Set: storage.NoList | storage.NoDelete},
				{Set: storage.NoRead, Clear: storage.NoList}} {
				if err := f.ChangeLocks(ctx, "a", reference, c); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.ChangeLocks(ctx, "a", reference, storage.LockChange{Set: storage.NoWrite},
				refused); err == nil {
				t.Error("a change that could not be audited was made")
			}
			if got, err := locks(); got != storage.NoDelete|storage.NoRead || err != nil {
				t.Errorf("%q: locks %b, %v", reference, got, err)
			}
			if err := f.ChangeLocks(ctx, "a", reference,
				storage.LockChange{Clear: storage.NoDelete | storage.NoRead}); err != nil {
				t.Fatal(err)
			}
		}
		for reference, want := range map[string]string{
			"v1": "its tag v1;", m.Digest.String(): "its manifest " + m.Digest.String() + ";",
		} {
			for _, change := range []storage.LockChange{{Set: storage.NoDelete}, {Clear: storage.NoDelete}} {
				if err := f.ChangeLocks(ctx, "a", reference, change); err != nil {
					t.Fatal(err)
				}
				if change.Set == 0 {
					continue
				}
				if err := f.DeleteRepository(ctx, "a"); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("delete a repository with a lock: %v, want %q", err, want)
				}
			}
		}
		for name, remove := range map[string]func() error{
			"tag":        func() error { return f.DeleteTag(ctx, "a", "v1", refused) },
			"manifest":   func() error { return f.DeleteManifest(ctx, "a", m.Digest, refused) },
			"repository": func() error { return f.DeleteRepository(ctx, "a", refused) },
		} {
			if err := remove(); err == nil || err.Error() != "not audited" {
				t.Errorf("delete %s: %v", name, err)
			}
		}
		if _, err := f.Manifest(ctx, "a", "v1"); err != nil {
			t.Errorf("a deletion that could not be audited was made: %v", err)
		}
	})
}
