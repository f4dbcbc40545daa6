//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/retry"
	"ferry/test/image"
	"ferry/test/instance"
)

// isStatus reports whether err is a response with this status, and text in its body.
func isStatus(err error, status int, text string) bool {
	var s *instance.StatusError
	return errors.As(err, &s) && s.Status == status && strings.Contains(s.Body, text)
}

// failsToStart starts a site, which must fail. It must print the reason, with all words,
// on one line, and a hint on another.
func failsToStart(t *testing.T, o instance.Options, words ...string) {
	t.Helper()
	s, err := instance.Try(t, o)
	if err == nil {
		t.Fatal("it started")
	}
	var line, hint string
	for l := range strings.Lines(s.Log()) {
		switch {
		case strings.HasPrefix(l, "ferry: "):
			line = l
		case strings.HasPrefix(l, "hint: "):
			hint = l
		case strings.Contains(l, "goroutine "):
			t.Errorf("it panics:\n%s", s.Log())
		}
	}
	for _, w := range words {
		if !strings.Contains(line, w) {
			t.Errorf("the error is %q, without %q\n%s", line, w, s.Log())
		}
	}
	if hint == "" {
		t.Errorf("there is no hint:\n%s", s.Log())
	}
}

func TestSecondServerOnADataDirectoryIsRefused(t *testing.T) {
	root := startRoot(t)
	img := image.New(t, image.Options{Seed: 30, Layers: []int64{1000}})
	push(t, root, "apps/a", img)
	failsToStart(t, instance.Options{DataDir: root.DataDir}, root.DataDir)
	if _, err := root.AsAdmin(t).Pull(t.Context(), "apps/a", img.Tag); err != nil {
		t.Errorf("the first server no longer serves: %v", err)
	}
}

func TestDataDirectoryOfNewerVersionIsRefusedUnchanged(t *testing.T) {
	root := startRoot(t)
	img := image.New(t, image.Options{Seed: 31, Layers: []int64{1000}})
	push(t, root, "apps/a", img)
	root.Stop(t)
	setSchema := func(query string) {
		t.Helper()
		db, err := sql.Open("sqlite", filepath.Join(root.DataDir, "ferry.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	setSchema(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`)
	failsToStart(t, instance.Options{DataDir: root.DataDir}, "newer")
	setSchema(`DELETE FROM goose_db_version WHERE version_id = 9999`)
	again := instance.Start(t, instance.Options{DataDir: root.DataDir})
	if d, err := again.AsAdmin(t).Pull(t.Context(), "apps/a", img.Tag); err != nil || d != img.Digest {
		t.Errorf("after the refusal: %s, %v; want %s", d, err, img.Digest)
	}
}

func TestPortInUseIsAClearError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	failsToStart(t, instance.Options{Listen: l.Addr().String()}, l.Addr().String(), "address already in use")
}

func TestReadOnlyDirectoryIsAClearError(t *testing.T) {
	dir := shortDir(t)
	o := instance.Options{DataDir: filepath.Join(dir, "data"), Program: filepath.Join(dir, "ferry")}
	program, err := os.ReadFile(instance.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Program, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // root can write to read-only directories
		const nobody = 65534
		o.Attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	failsToStart(t, o, o.DataDir, "permission denied")
}

func TestDirectoryWritableByOthersIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory of another user")
	}
	dir := shortDir(t)
	o := instance.Options{DataDir: filepath.Join(dir, "data"), Program: filepath.Join(dir, "ferry")}
	program, err := os.ReadFile(instance.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.WriteFile(o.Program, program, 0o755), os.Chmod(dir, 0o755),
		os.Mkdir(o.DataDir, 0o700), os.Chmod(o.DataDir, 0o777))
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	o.Attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	failsToStart(t, o, o.DataDir, "others may write")
}

// smallDisk returns a directory on a disk of this size.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFullDiskAtFirstStartIsAClearError(t *testing.T) {
	dir := smallDisk(t, "64k")
	if err := os.WriteFile(filepath.Join(dir, "others"), make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	failsToStart(t, instance.Options{DataDir: filepath.Join(dir, "data")}, "open database")
}

func TestFullDiskRefusesAPushAndHarmsNothing(t *testing.T) {
	dir := smallDisk(t, "24m")
	root := instance.Start(t, instance.Options{DataDir: filepath.Join(dir, "data")})
	admin := root.AsAdmin(t)
	before := image.New(t, image.Options{Seed: 32, Layers: []int64{4 << 20}})
	push(t, root, "apps/a", before)

	large := image.New(t, image.Options{Seed: 33, Layers: []int64{40 << 20}})
	location, err := admin.StartUpload(t.Context(), "apps/a")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(large.Blob(large.Manifest.Layers[0].Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = admin.Do(t.Context(), http.MethodPatch, location, nil, f, large.Manifest.Layers[0].Size)
	var status *instance.StatusError
	if !errors.As(err, &status) || status.Status < 500 || !strings.Contains(status.Body, `"errors"`) {
		t.Fatalf("upload to a full disk: %v; want a status of 500 or above, in the specified form", err)
	}
	t.Logf("the answer: %v", err)
	if !root.Running() {
		t.Fatalf("the server ended:\n%s", root.Log())
	}
	if d, err := admin.Pull(t.Context(), "apps/a", before.Tag); err != nil || d != before.Digest {
		t.Errorf("pull with the disk full: %s, %v; want %s", d, err, before.Digest)
	}

	resp, err := admin.Do(t.Context(), http.MethodDelete, location, nil, nil, 0)
	if err != nil {
		t.Fatalf("cancel the upload: %v", err)
	}
	resp.Body.Close()
	after := image.New(t, image.Options{Seed: 34, Tag: "v2", Layers: []int64{4 << 20}})
	push(t, root, "apps/a", after)
	if d, err := admin.Pull(t.Context(), "apps/a", after.Tag); err != nil || d != after.Digest {
		t.Errorf("pull once there is room: %s, %v; want %s", d, err, after.Digest)
	}
}

// The disk of the site has room for about 11 of 16 images.
func TestSmallDiskServesAsManyImagesAsFit(t *testing.T) {
	const images, size = 16, 3 << 20
	root := startRoot(t)
	for i := range images {
		push(t, root, "apps/a",
			image.New(t, image.Options{Seed: uint64(40 + i), Tag: fmt.Sprintf("v%02d", i), Layers: []int64{size}}))
	}
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", root.Host, []string{"apps/a"})
	dir := smallDisk(t, "40m")
	ship := instance.Start(t, connection.Options(instance.Options{DataDir: filepath.Join(dir, "data")}))
	ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
	defer cancel()
	for !strings.Contains(ship.Log(), "sync finished with failures") {
		if err := retry.Sleep(ctx, 100*time.Millisecond, nil); err != nil {
			t.Fatalf("%v\n%s", err, ship.Log())
		}
	}

	served := 0
	for i := range images {
		if _, err := ship.AsAdmin(t).Pull(ctx, "apps/a", fmt.Sprintf("v%02d", i)); err == nil {
			served++
		}
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	const spare = 2 << 20 // syncs leave this much to the database
	if free := int64(disk.Bavail) * disk.Bsize; free >= size+spare {
		t.Errorf("%d images are served, but %d bytes are free", served, free)
	}
	partial, err := os.ReadDir(filepath.Join(dir, "data", "partial"))
	if err != nil || len(partial) > 0 {
		t.Errorf("partial files: %v, %v; want none", partial, err)
	}
	status := ship.Admin(t, "ship1").Run(t, "sync", "status", "-r", "ship1", "-o", "json")
	t.Logf("%d of %d images are served; %s", served, images, status)
	for _, text := range []string{fmt.Sprintf("items that do not fit: %d; missing space: ", images-served),
		"the image needs "} {
		if !strings.Contains(status, text) {
			t.Errorf("the status does not contain %q", text)
		}
	}
}

// fill fills a disk. The caller frees the space again with free.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "others")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// The disk is full to the last page. To delete images and to disable a token, the database
// needs room for its log, which it gets from the reserve.
func TestFullDiskStillDeletes(t *testing.T) {
	dir := smallDisk(t, "48m")
	root := instance.Start(t, instance.Options{DataDir: filepath.Join(dir, "data")})
	admin, sh := root.AsAdmin(t), root.Admin(t, "root")
	var all []*image.Image
	for i := range 20 {
		img := image.New(t, image.Options{Seed: uint64(40 + i), Tag: fmt.Sprint("v", i), Layers: []int64{100_000}})
		push(t, root, "apps/a", img)
		all = append(all, img)
	}
	sh.Run(t, "scope-map", "create", "--name", "readers", "--repository", "apps/a", "content/read")
	instance.Token(t, sh, "line1", "readers")
	root.Stop(t)
	free := fill(t, dir)

	root = instance.Start(t, instance.Options{DataDir: filepath.Join(dir, "data"), Listen: root.Host})
	more := image.New(t, image.Options{Seed: 70, Tag: "more", Layers: []int64{2 << 20}})
	if err := admin.Push(t.Context(), "apps/a", more); !isStatus(err, http.StatusInsufficientStorage, "no space") {
		t.Errorf("push to a full disk: %v, want 507", err)
	}
	for _, img := range all[:10] {
		resp, err := admin.Do(t.Context(), http.MethodDelete, "/v2/apps/a/manifests/"+string(img.Digest), nil, nil, 0)
		if err != nil {
			t.Fatalf("delete on a full disk: %v\n%s", err, root.Log())
		}
		resp.Body.Close()
	}
	sh.Run(t, "token", "update", "--name", "line1", "--status", "disabled")
	if err := admin.Push(t.Context(), "apps/a", more); !isStatus(err, http.StatusInsufficientStorage, "no space") {
		t.Errorf("push while the disk is full: %v, want 507", err)
	}
	for _, img := range all[10:] {
		if d, err := admin.Pull(t.Context(), "apps/a", img.Tag); err != nil || d != img.Digest {
			t.Errorf("pull from a full disk: %s, %v; want %s", d, err, img.Digest)
		}
	}
	free()
	if err := admin.Push(t.Context(), "apps/a", more); err != nil {
		t.Errorf("push once there is room: %v", err)
	}
	info, err := os.Stat(filepath.Join(root.DataDir, "ferry.db-reserve"))
	if err != nil || info.Size() == 0 {
		t.Errorf("the reserve is not restored: %v, %v", info, err)
	}
}

// The disk of a site is full to the last page. To record deletions and to apply them, the
// database needs room for its log.
func TestFullDiskAppliesDeletionsOfTheParent(t *testing.T) {
	root := startRoot(t)
	var all []*image.Image
	for i := range 12 {
		img := image.New(t, image.Options{Seed: uint64(80 + i), Tag: fmt.Sprint("v", i), Layers: []int64{100_000}})
		push(t, root, "apps/a", img)
		all = append(all, img)
	}
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", root.Host, []string{"apps/a"})
	dir := smallDisk(t, "40m")
	ship := instance.Start(t, connection.Options(instance.Options{DataDir: filepath.Join(dir, "data")}))
	for _, img := range all {
		awaitImage(t, ship, "apps/a", img)
	}
	fill(t, dir)
	for _, img := range all[1:] {
		resp, err := root.AsAdmin(t).Do(t.Context(), http.MethodDelete, "/v2/apps/a/manifests/"+string(img.Digest), nil,
			nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
	defer cancel()
	for _, img := range all[1:] {
		for {
			_, err := ship.AsAdmin(t).Digest(ctx, "apps/a", img.Tag)
			if isStatus(err, http.StatusNotFound, "") {
				break
			}
			if err := retry.Sleep(ctx, 100*time.Millisecond, nil); err != nil {
				t.Fatalf("%s is still there: %v\n%s", img.Tag, err, ship.Log())
			}
		}
	}
	awaitImage(t, ship, "apps/a", all[0])
}

func TestUploadResumesAfterARestart(t *testing.T) {
	for name, end := range map[string]func(*instance.Instance, testing.TB){
		"stop": (*instance.Instance).Stop,
		"kill": (*instance.Instance).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			root := startRoot(t)
			admin := root.AsAdmin(t)
			img := image.New(t, image.Options{Seed: 35, Layers: []int64{5 << 20}})
			layer := img.Manifest.Layers[0]
			content, err := os.ReadFile(img.Blob(layer.Digest))
			if err != nil {
				t.Fatal(err)
			}
			location, err := admin.StartUpload(t.Context(), "apps/a")
			if err != nil {
				t.Fatal(err)
			}
			location = patch(t, admin, location, content, 0, 3<<20)
			end(root, t)
			instance.Start(t, instance.Options{DataDir: root.DataDir, Listen: root.Host})

			have := uploaded(t, admin, location)
			if have == 0 || have > 3<<20 {
				t.Errorf("the upload has %d bytes, want some of the %d", have, 3<<20)
			}
			location = patch(t, admin, location, content, have, len(content))
			resp, err := admin.Do(t.Context(), http.MethodPut, instance.WithDigest(location, layer.Digest), nil, nil, 0)
			if err != nil {
				t.Fatalf("finish the upload: %v", err)
			}
			resp.Body.Close()
			if err := admin.PullBlob(t.Context(), "apps/a", layer.Digest); err != nil {
				t.Error(err)
			}
		})
	}
}

// patch uploads content[from:to] and returns the location for the next chunk.
func patch(t *testing.T, l instance.Login, location string, content []byte, from, to int) string {
	t.Helper()
	header := http.Header{
		"Content-Type":  {"application/octet-stream"},
		"Content-Range": {fmt.Sprintf("%d-%d", from, to-1)},
	}
	resp, err := l.Do(t.Context(), http.MethodPatch, location, header, bytes.NewReader(content[from:to]),
		int64(to-from))
	if err != nil {
		t.Fatalf("upload a chunk: %v", err)
	}
	resp.Body.Close()
	return resp.Header.Get("Location")
}

// uploaded returns how many bytes of an upload the registry has.
func uploaded(t *testing.T, l instance.Login, location string) int {
	t.Helper()
	resp, err := l.Do(t.Context(), http.MethodGet, location, nil, nil, 0)
	if err != nil {
		t.Fatalf("ask for the upload: %v", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	_, end, _ := strings.Cut(resp.Header.Get("Range"), "-")
	last, err := strconv.Atoi(end)
	if err != nil {
		t.Fatalf("the upload's Range is %q", resp.Header.Get("Range"))
	}
	return last + 1
}

func TestParentRunsOnPostgreSQL(t *testing.T) {
	root := instance.Start(t, instance.Options{Args: []string{"--database", dbtest.PostgresURL(t)}})
	img := image.New(t, image.Options{Seed: 36, Layers: []int64{100_000}})
	push(t, root, "apps/a", img)
	connection := instance.Connect(t, root.Admin(t, "root"), "ship1", root.Host, []string{"apps/a"})
	ship := instance.Start(t, connection.Options(instance.Options{Args: []string{"--database", dbtest.PostgresURL(t)}}))
	awaitImage(t, ship, "apps/a", img)
	if _, err := os.Stat(filepath.Join(root.DataDir, "ferry.db")); err == nil {
		t.Error("there is a SQLite database beside the PostgreSQL one")
	}
}
