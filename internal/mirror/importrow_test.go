package mirror_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
)

// half waits until about half of a layer of size bytes has been sent.
func (u *upstream) half(size int) {
	for sent := 0; sent < size/2; u.set(func() { sent = u.sent }) {
		time.Sleep(100 * time.Millisecond)
	}
}

func (u *upstream) bytesSent() (n int) {
	u.set(func() { n = u.sent })
	return n
}

// row returns the row of an import.
func (h *instance) row(t *testing.T, id string) (row metadb.Import) {
	t.Helper()
	h.update(func(tx *metadb.Tx) (err error) {
		row, err = tx.Import(id)
		return err
	})
	return row
}

// outcomes returns what the audit log says about imports, the latest first.
func (h *instance) outcomes(t *testing.T) (all []string) {
	t.Helper()
	h.update(func(tx *metadb.Tx) error {
		entries, err := tx.Audit(metadb.AuditQuery{Object: "imports", Limit: 100})
		for _, e := range entries {
			all = append(all, strings.TrimSpace(e.Actor+" "+e.Action+" "+e.Detail))
		}
		return err
	})
	return all
}

func TestInterruptedImportContinuesFromTheSameByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 2 << 20
		h := newStoppedInstance(t)
		u := h.upstream
		d := u.image("app", "large", size, "1")
		u.requireLogin("bot", "hush")
		u.rate = 512 << 10
		stop := h.start(t)
		i := h.beginImport(t, mirror.ImportRequest{Source: "http://upstream.example/app:1", Username: "bot",
			Password: "hush", Actor: "ann"})
		u.half(size)
		stop()
		if i = h.importOf(t, i.ID); i.State != mirror.ImportRunning || i.Digest != d {
			t.Errorf("between two processes it is %+v", i)
		}
		if row := h.row(t, i.ID); row.Secret == "" || strings.Contains(row.Secret+string(row.Spec), "hush") {
			t.Errorf("the password is not sealed: %+v", row)
		}
		u.image("app", "moved", 10, "1") // the import keeps its digest
		before := u.bytesSent()
		h.newService(t)
		h.start(t)
		time.Sleep(time.Second)
		if done := h.importOf(t, i.ID).Progress.BytesDone; done < size/3 {
			t.Errorf("%d bytes are done, after half of %d were fetched earlier", done, size)
		}
		if i = h.awaitImport(t, i); i.State != mirror.ImportSucceeded || h.tags("app")["1"] != d {
			t.Errorf("%+v, and the tags are %v", i, h.tags("app"))
		}
		// What was on its way when the first process stopped is fetched again.
		if all := u.bytesSent(); all > size+size/4 {
			t.Errorf("%d bytes were sent, %d of them to the first process, of a layer of %d", all, before, size)
		}
		if row := h.row(t, i.ID); row.Secret != "" {
			t.Error("the password is kept after the end")
		}
		want := []string{"ann import succeeded", "ann import from http://upstream.example/app:1"}
		if diff := cmp.Diff(want, h.outcomes(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCancelledImportStopsInEveryProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 2 << 20
		h := newInstance(t)
		u := h.upstream
		d := u.image("app", "large", size, "1")
		u.rate = 512 << 10
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1", Password: "hush", Actor: "ann"}
		i := h.beginImport(t, q)
		u.half(size)
		runs := h.Service
		h.newService(t) // another process, which runs nothing
		if _, err := h.CancelImport(t.Context(), "other", "bob", ""); !errors.Is(err, mirror.ErrNoImport) {
			t.Errorf("cancel another import: %v", err)
		}
		i, err := h.CancelImport(t.Context(), i.ID, "bob", "")
		if err != nil || i.State != mirror.ImportCancelled || i.EndedAt.IsZero() {
			t.Errorf("%+v, %v", i, err)
		}
		runs.Wake() // as when the change is announced
		synctest.Wait()
		time.Sleep(time.Second)
		stopped := u.bytesSent()
		time.Sleep(time.Minute)
		if more := u.bytesSent() - stopped; more > 0 {
			t.Errorf("%d bytes came after the import was cancelled", more)
		}
		for _, s := range []*mirror.Service{runs, h.Service} {
			if i, err := s.ImportOf(t.Context(), i.ID); err != nil || i.State != mirror.ImportCancelled {
				t.Errorf("%+v, %v", i, err)
			}
		}
		if row := h.row(t, i.ID); row.Secret != "" || len(h.tags("app")) > 0 {
			t.Errorf("left of a cancelled import: %+v", row)
		}
		h.update(func(tx *metadb.Tx) error {
			items, err := tx.SyncItems("import/"+i.ID, metadb.AnySyncItem, "", "", 10)
			if len(items) > 0 {
				t.Errorf("items of a cancelled import: %v", items)
			}
			return err
		})
		if _, err := h.CancelImport(t.Context(), i.ID, "bob", ""); err != nil {
			t.Errorf("cancel it again: %v", err)
		}

		// It may be asked for again, at the other process.
		h.beginImport(t, q)
		runs.Wake()
		if i = h.awaitImport(t, h.importOf(t, i.ID)); i.State != mirror.ImportSucceeded || h.tags("app")["1"] != d {
			t.Errorf("%+v", i)
		}
		if all := u.bytesSent(); all > size+size/4 {
			t.Errorf("%d bytes were sent of a layer of %d", all, size)
		}
		if _, err := h.CancelImport(t.Context(), i.ID, "bob", ""); !errors.Is(err, mirror.ErrEnded) {
			t.Errorf("cancel an import that has ended: %v", err)
		}
		from := "ann import from http://upstream.example/app:1"
		want := []string{"ann import succeeded", from, "bob cancel", from}
		if diff := cmp.Diff(want, h.outcomes(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRevokedLoginFailsAnInterruptedImport(t *testing.T) {
	const size = 2 << 20
	for name, restart := range map[string]bool{"while it runs": false, "between two processes": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newStoppedInstance(t)
				u := h.upstream
				d := u.image("app", "large", size, "1")
				u.requireLogin("bot", "old")
				u.rate = 512 << 10
				stop := h.start(t)
				q := mirror.ImportRequest{Source: "http://upstream.example/app:1", Username: "bot", Password: "old"}
				i := h.beginImport(t, q)
				u.half(size)
				u.requireLogin("bot", "new")
				if restart {
					stop()
					h.newService(t)
					h.start(t)
				} else {
					u.set(func() { u.rate = 0 })
				}
				i = h.awaitImport(t, i)
				if !restart && i.State == mirror.ImportSucceeded {
					return // the requests that were answered already had everything
				}
				if i.State != mirror.ImportFailed || !strings.Contains(i.Problem, "UNAUTHORIZED") ||
					restart && !strings.Contains(i.Hint, "--username") || h.row(t, i.ID).Secret != "" {
					t.Errorf("%+v", i)
				}
				q.Password = "new"
				if i = h.runImport(t, q); i.State != mirror.ImportSucceeded || h.tags("app")["1"] != d {
					t.Errorf("with the new password: %+v", i)
				}
				if all := u.bytesSent(); all > size+size/4 {
					t.Errorf("%d bytes were sent of a layer of %d", all, size)
				}
			})
		})
	}
}

func TestOldImportsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		h.upstream.image("app", "one", 10, "1")
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1"}
		put := func(name string, count int, ended time.Time) {
			t.Helper()
			h.update(func(tx *metadb.Tx) (err error) {
				for n := 0; n < count && err == nil; n++ {
					row := metadb.Import{
						ID: fmt.Sprint(name, n), Spec: []byte(`{"source":"upstream.example/app:1"}`),
						State: "Succeeded", StartedAt: time.Now(), EndedAt: ended, Status: []byte(`{}`),
					}
					if row.Number, err = tx.PutImport(row); err == nil {
						err = tx.EndImport(row)
					}
				}
				return err
			})
		}
		put("old", 3, time.Now().Add(-40*24*time.Hour))
		put("new", 150, time.Now())
		i := h.runImport(t, q)
		if all := h.imports(t); len(all) != 100 || all[0].ID != i.ID || all[99].ID != "new51" {
			t.Errorf("%d imports are remembered, from %s to %s", len(all), all[0].ID, all[len(all)-1].ID)
		}
		time.Sleep(31 * 24 * time.Hour)
		q.Images = []string{"app:2"}
		if h.runImport(t, q); len(h.imports(t)) != 1 {
			t.Errorf("after a month, %d imports are remembered", len(h.imports(t)))
		}
	})
}

func TestImportsThatWaitAreBounded(t *testing.T) {
	h := newStoppedInstance(t)
	q := mirror.ImportRequest{Source: "http://upstream.example/app:1"}
	for n := range 100 {
		q.Images = []string{fmt.Sprint("app:", n)}
		h.beginImport(t, q)
	}
	h.beginImport(t, q) // the same as the last one
	q.Images = []string{"app:100"}
	if _, err := h.Import(t.Context(), q); !errors.Is(err, mirror.ErrBusy) {
		t.Errorf("the error is %v, want %v", err, mirror.ErrBusy)
	}
}

func TestImportWithoutItsKeySaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStoppedInstance(t)
		h.upstream.image("app", "one", 10, "1")
		q := mirror.ImportRequest{Source: "http://upstream.example/app:1", Username: "bot", Password: "hush"}
		i := h.beginImport(t, q)
		key, err := mirror.OpenKey(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		h.key = key // that of the data directory is lost
		h.newService(t)
		if _, err := h.Import(t.Context(), q); !errors.Is(err, mirror.ErrDiffers) {
			t.Errorf("the same request: %v", err)
		}
		h.start(t)
		if i = h.awaitImport(t, i); i.State != mirror.ImportFailed || !strings.Contains(i.Problem, "decrypted") {
			t.Errorf("%+v", i)
		}
	})
}
