package storage_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// A stalling body has some content, and then nothing until it is interrupted or its end comes.
type stalling struct {
	content     []byte
	more        chan []byte   // nil ends it
	interrupted chan struct{} // is closed when it is
}

var errTestInterrupt = errors.New("interrupted")

func newStalling(content string) *stalling {
	return &stalling{[]byte(content), make(chan []byte), make(chan struct{})}
}

func (s *stalling) Read(p []byte) (int, error) {
	if len(s.content) == 0 {
		select {
		case more := <-s.more:
			if more == nil {
				return 0, io.EOF
			}
			s.content = more
		case <-s.interrupted:
			return 0, errTestInterrupt
		}
	}
	n := copy(p, s.content)
	s.content = s.content[n:]
	return n, nil
}

func (s *stalling) Interrupt() { close(s.interrupted) }

// together makes processes follow each other until the test ends.
func together(t *testing.T, all []process) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var work errgroup.Group
	for _, p := range all {
		work.Go(func() error { return p.follower.Run(ctx) })
		work.Go(func() error { return p.AnswerUploads(ctx) })
	}
	t.Cleanup(func() {
		stop()
		if err := work.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// A client loses its connection to one process, and sends the rest to another one.
func TestStalledUploadIsTakenOverByAnotherProcess(t *testing.T) {
	t.Parallel()
	all := processes(t, 2)
	together(t, all)
	a, b := all[0], all[1]
	u, err := a.StartUpload(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	body := newStalling("first ")
	appended := make(chan error, 1)
	go func() {
		_, err := u.Append(t.Context(), body)
		u.Close()
		appended <- err
	}()
	body.more <- []byte("second")

	// A request for another byte does not end it, and neither does one for its size.
	size := int64(len("first second"))
	_, err = b.TakeUpload(t.Context(), "a", u.ID(), func(size int64) bool { return size == 1 })
	stalled, ok := errors.AsType[*storage.StalledError](err)
	if want := (&storage.StalledError{Size: size}); !ok || !cmp.Equal(stalled, want) {
		t.Fatalf("TakeUpload = %v, want %v", err, want)
	}
	select {
	case err := <-appended:
		t.Fatalf("the request that stalled was ended: %v", err)
	default:
	}

	taken, err := b.TakeUpload(t.Context(), "a", u.ID(), func(n int64) bool { return n == size })
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := <-appended; !errors.Is(err, errTestInterrupt) {
		t.Errorf("the request that stalled ended with %v", err)
	}
	if taken.Size() != size {
		t.Errorf("the upload has %d bytes, want %d", taken.Size(), size)
	}
	if _, err := a.TakeUpload(t.Context(), "b", u.ID(), nil); !errors.Is(err, oci.ErrBlobUploadUnknown) {
		t.Errorf("the upload in another repository: %v", err)
	}
}

func TestUploadThatReceivesIsNotTakenOver(t *testing.T) {
	t.Parallel()
	all := processes(t, 2)
	together(t, all)
	a, b := all[0], all[1]
	u, err := a.StartUpload(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	body := newStalling("")
	appended := make(chan error, 1)
	go func() {
		_, err := u.Append(t.Context(), body)
		u.Close()
		appended <- err
	}()
	taken := make(chan error, 1)
	go func() {
		_, err := b.TakeUpload(t.Context(), "a", u.ID(), func(int64) bool { return true })
		taken <- err
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
			body.more <- []byte("x")
		case err := <-taken:
			ended = true
			if !errors.Is(err, oci.ErrTooManyRequests) {
				t.Errorf("TakeUpload = %v, want %v", err, oci.ErrTooManyRequests)
			}
		}
	}
	close(body.more)
	if err := <-appended; err != nil {
		t.Errorf("the request that received bytes ended with %v", err)
	}
}
