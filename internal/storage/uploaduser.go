package storage

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"ferry/internal/oci"
)

// uploadStall is how long a request may receive nothing until a newer one may take over its upload. A
// client begins a newer one only when the older one is lost to it.
const uploadStall = 2 * time.Second

// An Interrupter is a reader whose Read ends with an error when another goroutine calls Interrupt, and so
// does each later Read.
type Interrupter interface {
	io.Reader
	Interrupt()
}

// A StalledError says that another request has the upload, and has received nothing for a while. It has
// not been ended.
type StalledError struct {
	Size int64 // bytes that the upload has
}

// Error implements error.
func (e *StalledError) Error() string {
	return fmt.Sprintf("another request has this upload, which has %d bytes, and has stalled", e.Size)
}

var errUploadInUse = oci.ErrTooManyRequests.With("another request is writing to this upload")

// An uploadHolder is a request that uses an upload, of this process or of another one.
type uploadHolder interface {
	// stalled returns how many bytes the upload has, and whether the request has waited for more for too
	// long.
	stalled() (size int64, stalled bool)
	// end ends the request, if it has not received anything meanwhile.
	end(context.Context) error
	// wait returns when to look at the request again: when the channel is closed, or after a time.
	wait(context.Context) (<-chan struct{}, time.Duration, error)
}

// TakeUpload is ResumeUpload for a request that may be a retry. While another request has the upload,
// TakeUpload waits for its end. If that one has stalled, ends is called with the number of bytes that the
// upload has: the other one is ended if ends returns true, and its bytes are kept; otherwise the error is
// a [*StalledError]. A request that still receives bytes is never ended. The other request may be one of
// another process; see [Storage.AnswerUploads].
func (s *Storage) TakeUpload(
	ctx context.Context, repository, id string, ends func(size int64) bool,
) (*Upload, error) {
	patience := time.NewTimer(2 * uploadStall)
	defer patience.Stop()
	away, leave := s.uploadsAway.await(s, id)
	defer leave()
	for {
		u, err := s.ResumeUpload(ctx, repository, id)
		holder := s.uploadHolder(id, away)
		if err != errUploadInUse || holder == nil {
			return u, err
		}
		if _, err := s.uploadRow(ctx, repository, id); err != nil {
			return nil, mapNotFound(err, oci.ErrBlobUploadUnknown)
		}
		if size, stalled := holder.stalled(); stalled {
			if !ends(size) {
				return nil, &StalledError{size}
			}
			if err := holder.end(ctx); err != nil {
				return nil, err
			}
		}
		changed, pause, err := holder.wait(ctx)
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-time.After(pause):
		case <-patience.C:
			return nil, errUploadInUse
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// uploadHolder returns the request that uses an upload: one of this process or else, if there are other
// processes, away. It is nil if the request has just left.
func (s *Storage) uploadHolder(id string, away *awayUser) uploadHolder {
	if user := s.uploadUsers.of(id); user != nil {
		return user
	}
	if s.partials.session == nil {
		return nil
	}
	return away
}

// uploadUsers has the request that uses each upload.
type uploadUsers struct {
	mu  sync.Mutex
	all map[string]*uploadUser // by the id of the upload
}

func (us *uploadUsers) of(id string) *uploadUser {
	us.mu.Lock()
	defer us.mu.Unlock()
	return us.all[id]
}

// begin registers the user of an upload. The caller has locked the upload.
func (us *uploadUsers) begin(id string) *uploadUser {
	user := &uploadUser{done: make(chan struct{})}
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.all == nil {
		us.all = map[string]*uploadUser{}
	}
	us.all[id] = user
	return user
}

// leave forgets a user, who has unlocked the upload, so that another one may have begun.
func (us *uploadUsers) leave(id string, user *uploadUser) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.all[id] == user {
		delete(us.all, id)
	}
	close(user.done)
}

// An uploadUser is a request that uses an upload.
type uploadUser struct {
	done chan struct{} // closed when the request has left the upload

	mu    sync.Mutex
	size  int64       // bytes that the upload has
	waits time.Time   // since when the request waits for bytes; zero if it does not
	body  Interrupter // of the request; nil cannot be ended
}

// read reads from a body into an upload of the given size.
func (u *uploadUser) read(body io.Reader, p []byte, size int64) (int, error) {
	u.mu.Lock()
	u.body, _ = body.(Interrupter)
	u.size, u.waits = size, time.Now()
	u.mu.Unlock()
	n, err := body.Read(p)
	u.mu.Lock()
	u.waits = time.Time{}
	u.mu.Unlock()
	return n, err
}

// stalled implements [uploadHolder].
func (u *uploadUser) stalled() (size int64, stalled bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size, u.body != nil && !u.waits.IsZero() && time.Since(u.waits) >= uploadStall
}

// wait implements [uploadHolder].
func (u *uploadUser) wait(context.Context) (<-chan struct{}, time.Duration, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if left := uploadStall - time.Since(u.waits); !u.waits.IsZero() && left > 0 {
		return u.done, left, nil
	}
	return u.done, uploadStall, nil
}

// end implements [uploadHolder].
func (u *uploadUser) end(context.Context) error {
	u.interrupt()
	return nil
}

// interrupt ends the wait for bytes.
func (u *uploadUser) interrupt() {
	u.mu.Lock()
	body := u.body
	u.mu.Unlock()
	if body != nil {
		body.Interrupt()
	}
}
