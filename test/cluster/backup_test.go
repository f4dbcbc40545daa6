//go:build cluster

package cluster_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// A backup is: copy the bucket, dump the database, and copy the new objects. Clients push and
// delete all the time.
func TestABackupUnderLoadIsRestoredWhole(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	admin := c.Root().AsAdmin(t)
	var images []*image.Image
	for i := range 6 {
		images = append(images, image.New(t, image.Options{Seed: uint64(200 + i), Layers: []int64{1000, 300_000}}))
	}
	load := cluster.NewLoad(admin, 2, images)
	stop, end := context.WithCancel(t.Context())
	defer end()
	done := make(chan error, 1)
	go func() { done <- load.Run(t.Context(), stop, 1) }()

	const backup = "backup"
	c.Store.Copy(t, cluster.Prefix, backup)
	kept := image.New(t, image.Options{Seed: 250, Layers: []int64{1 << 20}})
	if err := admin.Push(t.Context(), "kept/app", kept); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(t.TempDir(), "dump")
	c.Dump(t, dump)
	if err := admin.Push(t.Context(), "later/app", images[0]); err != nil {
		t.Fatal(err)
	}
	c.Store.Copy(t, cluster.Prefix, backup)
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Log(load)

	restored := c.Restore(t, dump, backup)
	l := restored.Root().AsAdmin(t)
	if d, err := l.Pull(t.Context(), "kept/app", kept.Tag); err != nil || d != kept.Digest {
		t.Errorf("pulled %s, %v; %s was pushed before the dump", d, err, kept.Digest)
	}
	pulled := 0
	for repo := range load.Content() {
		for _, tag := range tags(t, l, repo) {
			pulled++
			if _, err := l.Pull(t.Context(), repo, tag); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d tags of the load were restored", pulled)
	differences, err := restored.Differences(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		if !strings.HasPrefix(d, "no row has the object ") { // it was written after the dump
			t.Error(d)
		}
	}
	if err := l.Push(t.Context(), "later/app", images[0]); err != nil {
		t.Errorf("push what the dump does not know: %v", err)
	}
}

// tags returns the tags of a repository; none if it does not exist.
func tags(t *testing.T, l instance.Login, repo string) []string {
	t.Helper()
	resp, err := l.Do(t.Context(), http.MethodGet, "/v2/"+repo+"/tags/list", nil, nil, 0)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	return list.Tags
}
