package remote

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"ferry/internal/oci"
)

// Limits on a list that a registry serves in pages. The registry decides how large its
// pages are.
const (
	maxPages        = 10_000
	maxUselessPages = 100      // pages in a row without a new element
	maxPage         = 32 << 20 // size of one page, in bytes
	maxNesting      = 100      // depth of skipped JSON values
)

// A pagedList describes a list that a registry serves in pages.
type pagedList[T any] struct {
	member      string // the member of each page's JSON object that has the elements
	max         int    // number of elements on all pages
	elementSize int64  // maximum size of an element, in bytes
	add         func(T) (isNew bool)
}

// readPages passes to l.add every element of the page that q asks for, and of all pages
// after it. A loop of pages is an error.
func readPages[T any](ctx context.Context, r *Registry, q request, l pagedList[T]) error {
	left, useless := l.max, 0
	seen := map[[sha256.Size]byte]bool{}
	for range maxPages {
		key := sha256.Sum256([]byte(q.query.Encode()))
		if seen[key] {
			return malformedError{errors.New("a page is followed by an earlier page")}
		}
		seen[key] = true
		resp, err := r.do(ctx, q)
		if err != nil {
			return err
		}
		n, newCount, err := readPage(resp, l, left)
		if err != nil {
			return err
		}
		if left -= n; newCount > 0 {
			useless = 0
		} else if useless++; useless > maxUselessPages {
			return malformedError{fmt.Errorf("%d pages in a row have nothing new", useless)}
		}
		next, err := oci.NextPage(resp.Header.Values("Link"))
		if err != nil {
			return malformedError{err}
		}
		if next == nil {
			return nil
		}
		q.query = next
	}
	return malformedError{fmt.Errorf("there are more than %d pages", maxPages)}
}

// A malformedError says that a registry sent a complete response that is not in the
// expected form.
type malformedError struct{ error }

// Error implements error.
func (e malformedError) Error() string { return "the answer is malformed: " + e.error.Error() }

// Unwrap returns the cause.
func (e malformedError) Unwrap() error { return e.error }

// readPage reads a page of at most limit elements, and closes it. It returns the number
// of elements, and how many of them were new.
func readPage[T any](resp *http.Response, l pagedList[T], limit int) (n, newCount int, err error) {
	defer drain(resp.Body)
	body := &boundedBody{r: resp.Body, left: maxPage}
	n, newCount, err = readMembers(body, json.NewDecoder(body), l, limit)
	if err != nil {
		err = cmp.Or[error](body.err, malformedError{err})
	}
	return n, newCount, err
}

func readMembers[T any](body *boundedBody, dec *json.Decoder, l pagedList[T], limit int) (n, newCount int, err error) {
	if err := body.delim(dec, '{'); err != nil {
		return 0, 0, err
	}
	listed := false
	for body.more(dec) {
		name, err := body.token(dec)
		if err != nil {
			return n, newCount, err
		}
		if name != l.member {
			if err := body.skip(dec); err != nil {
				return n, newCount, err
			}
			continue
		}
		listed = true
		some, added, err := readElements(body, dec, l, limit-n)
		if n, newCount = n+some, newCount+added; err != nil {
			return n, newCount, err
		}
	}
	if err := body.delim(dec, '}'); err != nil {
		return n, newCount, err
	}
	if !listed {
		return n, newCount, fmt.Errorf("it has no %s", l.member)
	}
	return n, newCount, nil
}

// readElements reads a list of at most limit elements, or null.
func readElements[T any](body *boundedBody, dec *json.Decoder, l pagedList[T], limit int) (n, newCount int, err error) {
	switch first, err := body.token(dec); {
	case err != nil || first == nil:
		return 0, 0, err
	case first != json.Delim('['):
		return 0, 0, fmt.Errorf("%s is not a list", l.member)
	}
	for body.more(dec) {
		if n++; n > limit {
			return n, newCount, fmt.Errorf("there are more than %d %s", l.max, l.member)
		}
		var element T
		body.allow(l.elementSize)
		if err := dec.Decode(&element); err != nil {
			return n, newCount, err
		}
		if l.add(element) {
			newCount++
		}
	}
	return n, newCount, body.delim(dec, ']')
}

// A boundedBody is the body of a response that a [json.Decoder] reads piece by piece, a
// token or an element at a time. The decoder holds a piece in memory, so boundedBody
// bounds the size of each piece.
type boundedBody struct {
	r     io.Reader
	left  int64 // bytes until the body must end
	piece int64 // bytes until the piece must end
	err   error // of reading the body
}

// maxToken is how many bytes the decoder may read for one token, including what it
// reads ahead.
const maxToken = 64 << 10

// Read implements [io.Reader].
func (b *boundedBody) Read(p []byte) (int, error) {
	switch {
	case b.left <= 0:
		return 0, fmt.Errorf("it has more than %d MiB", maxPage>>20)
	case b.piece <= 0:
		return 0, errors.New("it has a string or an element that is too long")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left, b.piece)])
	b.left, b.piece = b.left-int64(n), b.piece-int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// allow sets the maximum size of the next piece.
func (b *boundedBody) allow(bytes int64) { b.piece = bytes }

func (b *boundedBody) token(dec *json.Decoder) (json.Token, error) {
	b.allow(maxToken)
	return dec.Token()
}

func (b *boundedBody) more(dec *json.Decoder) bool {
	b.allow(maxToken)
	return dec.More()
}

// delim reads a token that must be want.
func (b *boundedBody) delim(dec *json.Decoder, want json.Delim) error {
	got, err := b.token(dec)
	if err == nil && got != want {
		err = fmt.Errorf("it has %.20q instead of %s", fmt.Sprint(got), want)
	}
	return err
}

// skip reads a value of any size and discards it.
func (b *boundedBody) skip(dec *json.Decoder) error {
	for depth := 0; ; {
		t, err := b.token(dec)
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxNesting {
				return errors.New("it is nested too deeply")
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
