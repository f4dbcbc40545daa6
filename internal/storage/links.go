package storage

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// links remembers the links to blobs that this process has made not long ago, so that most pulls cost no
// request to the object store, and no signature. It forgets a link at the latest after twice linkReuse. The
// zero value has none.
type links struct {
	mu            sync.Mutex
	recent, older map[digest.Digest]string
	since         time.Time // when recent was begun
}

const (
	// linkLifetime is how long a link to a blob works. A client follows it at once; a download that has
	// begun goes on afterwards.
	linkLifetime = 5 * time.Minute
	// linkReuse is about how long a link is given to other clients. Most of its lifetime is left then.
	linkReuse = time.Minute
	maxLinks  = 10_000 // in recent; each takes about half a kilobyte
)

// age forgets old links.
func (l *links) age(now time.Time) {
	switch since := now.Sub(l.since); {
	case since >= 2*linkReuse || since < 0:
		l.recent, l.older, l.since = map[digest.Digest]string{}, nil, now
	case since >= linkReuse || len(l.recent) >= maxLinks:
		l.recent, l.older, l.since = map[digest.Digest]string{}, l.recent, now
	}
}

// of returns the link to a blob; "" if there is none.
func (l *links) of(d digest.Digest, now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	if link := l.recent[d]; link != "" {
		return link
	}
	return l.older[d]
}

// add records a link that was made.
func (l *links) add(d digest.Digest, link string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	l.recent[d] = link
}
