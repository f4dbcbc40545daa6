package storage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/retry"
)

// Processes with the same content find out through the database whether a request for an upload has
// stalled at another one, and end it. Their messages are the names of [metadb.UploadTopic]: a verb, the
// id of the upload and its size in bytes. A message that is lost is sent again by the one who waits.
const (
	askUpload     = "ask"     // has the request of this upload stalled? The size is 0.
	uploadStalled = "stalled" // the answer, if it has, at this size
	endUpload     = "end"     // end the request, if it has still stalled at this size
)

const (
	askUploadEvery = time.Second            // while there is no answer
	uploadAwayPoll = 100 * time.Millisecond // between two attempts to use the upload
	// maxUploadAnswers is how many answers wait at most. Who asked for another one asks again.
	maxUploadAnswers = 1000
)

// An uploadMessage is one that processes send each other about an upload.
type uploadMessage struct {
	verb, id string
	size     int64
}

func (m uploadMessage) name() string { return fmt.Sprintf("%s %s %d", m.verb, m.id, m.size) }

func parseUploadMessage(name string) (m uploadMessage, err error) {
	_, err = fmt.Sscanf(name, "%s %s %d", &m.verb, &m.id, &m.size)
	return m, err
}

// uploadsAway are the uploads that requests of this process wait for, and the answers to other processes.
// The zero value is ready.
type uploadsAway struct {
	mu      sync.Mutex
	waiting map[string]map[*awayUser]bool // by the id of the upload
	answers []uploadMessage
	added   retry.Signal // an answer was added
}

// An awayUser is the request of another process that uses an upload, as far as one request of this process
// knows.
type awayUser struct {
	s     *Storage
	id    string
	asked time.Time
	heard retry.Signal

	mu    sync.Mutex
	size  int64
	known bool // it has stalled at size
}

// await registers a request that may wait for an upload, until leave is called.
func (a *uploadsAway) await(s *Storage, id string) (user *awayUser, leave func()) {
	user = &awayUser{s: s, id: id}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = map[string]map[*awayUser]bool{}
	}
	if a.waiting[id] == nil {
		a.waiting[id] = map[*awayUser]bool{}
	}
	a.waiting[id][user] = true
	return user, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if delete(a.waiting[id], user); len(a.waiting[id]) == 0 {
			delete(a.waiting, id)
		}
	}
}

// stalled implements [uploadHolder].
func (u *awayUser) stalled() (size int64, stalled bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size, u.known
}

// end implements [uploadHolder].
func (u *awayUser) end(ctx context.Context) error {
	u.mu.Lock()
	size := u.size
	u.known = false // it ends, or it has received more
	u.mu.Unlock()
	u.asked = time.Now()
	return u.s.tellUploads(ctx, uploadMessage{endUpload, u.id, size})
}

// wait implements [uploadHolder]. It asks the other process from time to time.
func (u *awayUser) wait(ctx context.Context) (<-chan struct{}, time.Duration, error) {
	heard := u.heard.Wait()
	if time.Since(u.asked) < askUploadEvery {
		return heard, uploadAwayPoll, nil
	}
	u.asked = time.Now()
	return heard, uploadAwayPoll, u.s.tellUploads(ctx, uploadMessage{askUpload, u.id, 0})
}

// hear notes the answer of the other process.
func (u *awayUser) hear(size int64) {
	u.mu.Lock()
	u.size, u.known = size, true
	u.mu.Unlock()
	u.heard.Notify()
}

// tellUploads sends messages to the other processes.
func (s *Storage) tellUploads(ctx context.Context, messages ...uploadMessage) error {
	return s.write(ctx, func(tx *metadb.Tx) error {
		for _, m := range messages {
			tx.Changed(metadb.UploadTopic, m.name())
		}
		return nil
	})
}

// followUpload does what a message of another process says.
func (s *Storage) followUpload(m uploadMessage) {
	if m.verb == uploadStalled {
		s.uploadsAway.heard(m)
		return
	}
	user := s.uploadUsers.of(m.id)
	if user == nil {
		return
	}
	size, stalled := user.stalled()
	switch {
	case !stalled:
	case m.verb == askUpload:
		s.uploadsAway.answer(uploadMessage{uploadStalled, m.id, size})
	case m.verb == endUpload && m.size == size:
		user.interrupt()
	}
}

// heard gives an answer to the requests that wait for it.
func (a *uploadsAway) heard(m uploadMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for user := range a.waiting[m.id] {
		user.hear(m.size)
	}
}

// answer makes [Storage.AnswerUploads] send an answer.
func (a *uploadsAway) answer(m uploadMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) < maxUploadAnswers {
		a.answers = append(a.answers, m)
	}
	a.added.Notify()
}

func (a *uploadsAway) take() []uploadMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.answers
	a.answers = nil
	return all
}

// AnswerUploads tells other processes which uploads have stalled here, when they ask, until ctx ends.
func (s *Storage) AnswerUploads(ctx context.Context) error {
	for {
		added := s.uploadsAway.added.Wait()
		if all := s.uploadsAway.take(); len(all) > 0 {
			if err := s.tellUploads(ctx, all...); err != nil && ctx.Err() == nil {
				s.log.Warn("stalled uploads are not told to other processes", "err", err)
			}
		}
		select {
		case <-added:
		case <-ctx.Done():
			return nil
		}
	}
}
