package replication

import (
	"context"
	"errors"
	"slices"
	"time"

	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// A laterError lets an image wait for another pass.
type laterError struct{ error }

// Unwrap returns the error itself.
func (e laterError) Unwrap() error { return e.error }

// judge settles what becomes of a claim's layer after a try that ended with
// err. Its error ends the Sync.
func (r *run) judge(ctx context.Context, q *queue, c *claim, progress bool, err error) error {
	l := c.layer
	own := ownError{}
	switch {
	case errors.Is(err, oci.ErrNoSpace) || errors.Is(err, oci.ErrSizeInvalid):
		return r.giveUp(ctx, q, l, err)
	case errors.As(err, &own) && !errors.Is(err, storage.ErrBusy):
		return own.error
	case r.final(err):
		if q.elsewhere(l, c.repository) {
			return nil
		}
		return r.giveUp(ctx, q, l, err)
	}
	asked := retry.After(err)
	if asked > 0 || !answered(err) && own.error == nil {
		r.link.failed(asked, err)
	}
	if progress || !q.inVain(l, answered(err) || own.error != nil, asked) {
		return nil
	}
	return r.putOff(ctx, q, l, err)
}

// inVain notes a try at l that brought nothing, and after which the source
// wants to be left alone for asked. It reports whether l must not hold up other
// things any longer.
func (q *queue) inVain(l *layer, answered bool, asked time.Duration) bool {
	proof := q.link.proof()
	q.mu.Lock()
	defer q.mu.Unlock()
	return l.trouble.add(answered, proof, asked)
}

// putOff lets a layer that fails again and again wait until everything else
// was tried, and gives it up when it fails in the same way after that,
// although other things came through in between: then it is not the link.
func (r *run) putOff(ctx context.Context, q *queue, l *layer, err error) error {
	proof := r.link.proof()
	r.mu.Lock()
	before, struck := r.strikes[l.digest]
	r.strikes[l.digest] = proof
	r.mu.Unlock()
	if struck && proof > before {
		return r.giveUp(ctx, q, l, err)
	}
	return r.giveUp(ctx, q, l, laterError{err})
}

// moved forgets that a layer was put off.
func (r *run) moved(l *layer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.strikes, l.digest)
}

// commitLayer makes l a blob and whatever waited for it visible. Content that
// turns out wrong for the first time is fetched again from nothing.
func (r *run) commitLayer(ctx context.Context, q *queue, l *layer) error {
	err := r.commitBlob(ctx, l)
	if errors.Is(err, oci.ErrDigestInvalid) {
		if err := l.transfer.Reset(ctx); err != nil {
			return err
		}
		r.meter.add(func(p *Progress) { l.got(p, -l.size) })
		if q.again(l) {
			r.log.Warn("content was wrong and is fetched again", "digest", l.digest)
			return nil
		}
		r.larder.spoil(l.digest)
	} else if err != nil && !errors.Is(err, oci.ErrNoSpace) {
		return err
	}
	if closeErr := q.finish(l); closeErr != nil && !errors.Is(closeErr, oci.ErrNoSpace) {
		return closeErr
	}
	if err != nil {
		return r.failImages(ctx, q, l, err)
	}
	r.larder.fresh(l.digest)
	for _, im := range r.take(l) {
		if err := r.advance(ctx, q, im); err != nil {
			return err
		}
	}
	return nil
}

// commitBlob makes l a blob of its repositories.
func (r *run) commitBlob(ctx context.Context, l *layer) error {
	if l.transfer != nil {
		return l.transfer.Commit(ctx, l.repositories...)
	}
	for _, repository := range l.repositories {
		if err := r.storage.LinkBlob(ctx, repository, l.digest); err != nil {
			return err
		}
	}
	return nil
}

// again lets the layer, whose content was wrong, be fetched once more, and
// reports whether it may be.
func (q *queue) again(l *layer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.resets++; l.resets > 1 {
		return false
	}
	l.closing = false
	q.wake()
	return true
}

// take returns the images that waited for l, which is here. Images that are
// planned from now on find it in storage.
func (r *run) take(l *layer) []*image {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live[l.digest] == l {
		delete(r.live, l.digest)
	}
	for _, im := range l.images {
		delete(im.layers, l)
	}
	return l.images
}

// giveUp lets the images that need l fail for the reason err.
func (r *run) giveUp(ctx context.Context, q *queue, l *layer, err error) error {
	ok, closeErr := q.abandon(l)
	if closeErr != nil && !errors.Is(closeErr, oci.ErrNoSpace) {
		return closeErr
	}
	if !ok {
		return nil // somebody else got it
	}
	return r.failImages(ctx, q, l, err)
}

// failImages lets the images that need l fail, and abandons the layers that
// nobody needs then. Where some of them say that l has another size than it was
// fetched with, only the others fail: the next pass goes by what those say.
func (r *run) failImages(ctx context.Context, q *queue, l *layer, err error) error {
	var unneeded []*layer
	r.mu.Lock()
	if r.live[l.digest] == l {
		delete(r.live, l.digest)
	}
	images := slices.Clone(l.images)
	later := errors.As(err, &laterError{})
	mistaken := !later && slices.ContainsFunc(images, func(im *image) bool { return !im.doubts[l] })
	for _, im := range images {
		if mistaken && im.doubts[l] {
			im.fail(laterError{err})
			later = true
		} else {
			im.fail(err)
		}
	}
	if later {
		r.meter.add(l.forget) // the next pass counts it again
	}
	for _, im := range images {
		for other := range im.layers {
			needed := func(o *image) bool { return o.err == nil || errors.As(o.err, &laterError{}) }
			if other != l && !slices.ContainsFunc(other.images, needed) {
				unneeded = append(unneeded, other)
				if r.live[other.digest] == other {
					delete(r.live, other.digest)
				}
			}
		}
	}
	r.mu.Unlock()
	for _, l := range unneeded {
		if _, err := q.abandon(l); err != nil && !errors.Is(err, oci.ErrNoSpace) {
			return err
		}
	}
	for _, im := range images {
		if err := r.advance(ctx, q, im); err != nil {
			return err
		}
	}
	return nil
}
