package replication

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/retry"
	"ferry/internal/storage"
)

// A layer is a blob that is to be fetched. Its fields belong to its queue.
type layer struct {
	digest       digest.Digest
	size         int64
	repositories []string // that need it; the source may have it in any of them
	from         int      // the one of them from which it is fetched
	images       []*image // the run's lock guards it

	batch    bool              // it may come in one answer with others
	transfer *storage.Transfer // nil while nobody fetched any of it
	claims   []*claim
	alone    bool // one connection fetches it, from its first byte
	resets   int  // how often its content was wrong
	closing  bool // somebody is committing it
	unwanted bool // nobody needs it any more
	finished bool // it is here, or given up
	trouble  trouble

	// The meter's lock guards what follows.
	counted, done int64 // bytes, as [Progress] has them
	pace          pace  // of those that are done
}

// expect counts the layer among what is to come.
func (l *layer) expect(p *Progress) {
	l.counted = l.size
	p.BytesTotal += l.size
}

// got counts n bytes of the layer as here, or as lost where n is negative,
// unless it is not expected any more.
func (l *layer) got(p *Progress, n int64) {
	n = min(max(n, -l.done), l.counted-l.done)
	l.done += n
	p.BytesDone += n
	l.pace.note(time.Now(), l.done)
}

// forget takes back what was counted of the layer, once.
func (l *layer) forget(p *Progress) {
	p.BytesTotal -= l.counted
	p.BytesDone -= l.done
	l.counted, l.done = 0, 0
}

// A claim is a range of a layer that somebody is fetching. It is empty where
// the layer is whole and wants to be committed.
type claim struct {
	*layer
	storage.Range
	repository int // in which the source is asked for it
}

// all reports whether the claim is the whole layer.
func (c *claim) all() bool { return c.Start == 0 && c.End == c.size }

// drop takes the claim off its layer.
func (c *claim) drop() {
	c.claims = slices.DeleteFunc(c.claims, func(o *claim) bool { return o == c })
}

// trouble is a row of tries at a layer that brought nothing.
type trouble struct {
	since   time.Time // zero is none
	tries   int
	proof   int64     // of the link, at the last of them
	until   time.Time // nobody tries before
	backoff *retry.Backoff
}

// The least trouble, in time and in tries, after which a layer must no longer
// hold up what comes after it.
const (
	enoughTime  = time.Minute
	enoughTries = 3
)

// add notes another try in vain and reports whether it was enough. A pause of
// its own is for a layer that has trouble while the link is good: the source
// answered, or others got through since the last try. It is no shorter than
// what the source asked for.
func (t *trouble) add(answered bool, proof int64, asked time.Duration) (enough bool) {
	now := time.Now()
	if t.since.IsZero() {
		*t = trouble{since: now, proof: proof, backoff: retry.NewBackoff(firstPause, maxPause, 1.1)}
	}
	t.tries++
	if (answered || proof > t.proof) && !now.Before(t.until) {
		t.until = now.Add(max(t.backoff.NextBackOff(), asked))
	}
	t.proof = proof
	return now.Sub(t.since) >= enoughTime && t.tries >= enoughTries
}

// gaps returns what of the layer is neither here nor being fetched.
func (l *layer) gaps() []storage.Range {
	gaps := l.transfer.Missing()
	for _, c := range l.claims {
		var rest []storage.Range
		for _, g := range gaps {
			if c.End <= g.Start || c.Start >= g.End {
				rest = append(rest, g)
				continue
			}
			if g.Start < c.Start {
				rest = append(rest, storage.Range{Start: g.Start, End: c.Start})
			}
			if c.End < g.End {
				rest = append(rest, storage.Range{Start: c.End, End: g.End})
			}
		}
		gaps = rest
	}
	return gaps
}

// segmentChunks is how many chunks one request asks for at most: enough to
// make little of its round trip, few enough to share a blob's end fairly.
const segmentChunks = 8

// segmenting is what the length of a request depends on.
type segmenting struct {
	chunk int64
	hands int    // that fetch
	reach extent // of the connection
	rest  int64  // of all layers, what is being fetched included; 0 where there may be more to come
}

// segment cuts a range from the gaps. While more layers may come, who is done
// with this one goes on with those. Otherwise everybody takes most of a fair
// share of what is left, so that all are done at about the same time.
func (l *layer) segment(gaps []storage.Range, s segmenting) storage.Range {
	r := gaps[0]
	if l.alone {
		return storage.Range{Start: r.Start, End: l.size}
	}
	var left int64
	for _, g := range gaps {
		left += g.Len()
	}
	least, crumbs, share := s.chunk, min(s.chunk, leastSegment), left/int64(2*s.hands)
	if s.rest > 0 {
		least = min(s.chunk, s.reach.least)
		crumbs, share = least/2, s.rest*4/int64(5*s.hands)
	}
	length := min(max(share, least), segmentChunks*s.chunk, s.reach.most)
	if r.Len() < length+crumbs {
		return r
	}
	return storage.Range{Start: r.Start, End: r.Start + length}
}
