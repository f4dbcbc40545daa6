package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/outbound"
	"ferry/internal/retry"
)

// Limits on optional requests that the source does not answer, although it answers others.
const (
	// optionalTimeout is how long a source may send nothing in response to an optional
	// request, and how long a blob of an optional manifest may fail.
	optionalTimeout = 30 * time.Second
	// maxUnanswered is how often such a request is sent. If the source answers none of
	// them, the next request of the same kind is sent once less, and so on. After
	// maxUnanswered parts in a row, no more requests of this kind are sent.
	maxUnanswered = 3
	// optionalPause is the pause between these requests.
	optionalPause = time.Second
)

// An optionalKind is a kind of optional request.
type optionalKind string

const (
	referrersLists    optionalKind = "lists of referrers"
	attachedTags      optionalKind = "tags of signatures"
	optionalManifests optionalKind = "manifests of referrers"
	foreignLayers     optionalKind = "foreign layers"
)

// An unansweredKind counts the parts in a row that a source did not answer.
type unansweredKind struct {
	parts int
	err   error // the last one
}

// askOptional makes an optional request for a part of an image. If it fails, skip says
// whether to fetch the image without that part; otherwise the image must wait.
//
// If the source does not answer, it repeats the request, as long as the source answers
// another one. If it does not answer that either, the link is down.
func (s *source) askOptional(
	ctx context.Context, kind optionalKind, part string, request func() error,
) (skip bool, _ error) {
	for try := 1; ; try++ {
		if err := s.unansweredError(kind); err != nil {
			return true, err
		}
		err := request()
		switch {
		case err == nil || hasAnswer(err):
			s.mu.Lock()
			delete(s.unanswered, kind)
			s.mu.Unlock()
			return err != nil && s.canDoWithout(part, err), err
		case errors.As(err, new(*backoffError)):
			return s.canDoWithout(part, err), err
		case ctx.Err() != nil || !s.isReachable(ctx):
			return false, err
		case s.countUnanswered(kind, try, err):
			return true, err
		}
		if err := retry.Sleep(ctx, optionalPause, nil); err != nil {
			return false, err
		}
	}
}

// hasAnswer reports whether err is the source's answer to a request.
func hasAnswer(err error) bool {
	return retry.Answered(err) || errors.As(err, new(*outbound.RefusedError))
}

// unansweredError returns an error if no more requests of a kind are sent.
func (s *source) unansweredError(kind optionalKind) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.unanswered[kind]; u.parts >= maxUnanswered {
		return fmt.Errorf("the source does not answer requests for %s: %w", kind, u.err)
	}
	return nil
}

// countUnanswered records that the source did not answer so many requests for a part. It
// reports whether that was the last request for this part.
func (s *source) countUnanswered(kind optionalKind, tries int, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.unanswered[kind]
	if tries+u.parts < maxUnanswered {
		return false
	}
	s.unanswered[kind] = unansweredKind{u.parts + 1, err}
	return true
}

// isReachable reports whether the source answers a request that is not optional: for the
// last manifest that it had.
func (s *source) isReachable(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, optionalTimeout)
	defer cancel()
	s.mu.Lock()
	reference := s.lastReference
	s.mu.Unlock()
	var err error
	if reference == "" {
		_, err = s.registry.HasRepository(ctx, s.repository)
	} else {
		_, err = s.registry.Resolve(ctx, s.repository, reference)
	}
	return err == nil || retry.Answered(err) && retry.After(err) == 0
}

// setReference records a tag or digest that the source has.
func (s *source) setReference(reference string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastReference = reference
}

// canDoWithout reports whether an image is fetched without an optional part, because the
// request for that failed with err. It is false if the source did not answer. If the
// source asks for pauses, it is false until these exceed [planTimeout] in total.
func (s *source) canDoWithout(part string, err error) bool {
	pause := retry.After(err)
	if held := (*backoffError)(nil); errors.As(err, &held) {
		if !held.optional {
			return false // the image must wait for the host, too
		}
	} else {
		switch retry.Status(err) {
		case 0:
			return errors.As(err, new(*outbound.RefusedError)) // otherwise it did not answer
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
		default:
			if pause == 0 {
				return true
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return sinceFirst(s.postponed, part)+pause >= planTimeout
}

// addItems records which manifests of a rule's items are optional: those that no other tag
// names.
func (s *source) addItems(items itemSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range items {
		if isOptionalItem(i.Tag) {
			s.optionalManifests[i.Digest] = true
		}
	}
	for i := range items {
		if !isOptionalItem(i.Tag) {
			s.optionalManifests[i.Digest] = false
		}
	}
}

// isOptional reports whether d is a referrer, or the manifest of an attached tag: the
// manifest that it belongs to must not fail with it.
func (s *source) isOptional(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.optionalManifests[d]
}

// addBlobs records the blobs of a manifest. A blob is optional if only optional manifests
// have it.
func (s *source) addBlobs(blobs []oci.Descriptor, optional bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range blobs {
		if optional && !s.requiredBlobs[b.Digest] {
			s.optionalBlobs[b.Digest] = b.Size
		} else if !optional {
			s.requiredBlobs[b.Digest] = true
			delete(s.optionalBlobs, b.Digest)
		}
	}
}

func (s *source) isOptionalBlob(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.optionalBlobs[d]
	return ok
}

// optionalBlobError returns the error of a request for an optional blob in the form that
// the engine needs: it must not stop other requests, and it is permanent once the blob has
// failed for [optionalTimeout]. If the link is down, err stays as it is.
func (s *source) optionalBlobError(ctx context.Context, d digest.Digest, err error) error {
	held := (*backoffError)(nil)
	switch errors.As(err, &held); {
	case ctx.Err() != nil || retry.Permanent(err) || held != nil && !held.optional:
		return err
	case held == nil && !hasAnswer(err) && !s.isReachable(ctx):
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &optionalError{err, sinceFirst(s.blobFailures, d)+retry.After(err) >= optionalTimeout}
}

// sinceFirst returns the time since the first call for a key of times.
func sinceFirst[K comparable](times map[K]time.Time, key K) time.Duration {
	first, ok := times[key]
	if !ok {
		first = time.Now()
		times[key] = first
	}
	return time.Since(first)
}

// An optionalBody is the body of the response to a request for an optional blob.
type optionalBody struct {
	io.ReadCloser
	ctx       context.Context // the request's
	source    *source
	digest    digest.Digest
	continues bool  // it begins with the requested byte, so each byte is progress
	left      int64 // bytes up to the end of the requested range
}

// optionalBody wraps a body that begins at start. The request was for length bytes from
// offset on; a negative length is the rest.
func (s *source) optionalBody(
	ctx context.Context, body io.ReadCloser, d digest.Digest, start, offset, length int64,
) *optionalBody {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.optionalBlobs[d]
	if length >= 0 {
		end = min(end, offset+length)
	}
	return &optionalBody{body, ctx, s, d, start == offset, end - start}
}

// Read implements [io.Reader].
func (b *optionalBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.continues {
		b.source.mu.Lock()
		delete(b.source.blobFailures, b.digest)
		b.source.mu.Unlock()
	}
	if b.left -= int64(n); b.left > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		err = b.source.optionalBlobError(b.ctx, b.digest, err)
	}
	return n, err
}

// An optionalError is the error of a request for an optional blob. The link is up.
type optionalError struct {
	error
	permanent bool
}

// Unwrap returns the cause.
func (e *optionalError) Unwrap() error { return e.error }

// StatusCode returns the status of the answer; if there was none, one that says that the
// source is at fault, and not the link.
func (e *optionalError) StatusCode() int {
	return cmp.Or(retry.Status(e.error), http.StatusServiceUnavailable)
}

// Permanent reports whether the image is fetched without the blob.
func (e *optionalError) Permanent() bool { return e.permanent }

// RetryAfter returns 0, because only optional requests wait; see [hostBackoff].
func (e *optionalError) RetryAfter() time.Duration { return 0 }
