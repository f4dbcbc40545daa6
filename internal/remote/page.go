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

// Limits on a list that a registry gives in pages. It decides how large these
// are.
const (
	maxPages     = 10_000
	maxVainPages = 100      // in a row that bring nothing new
	maxPage      = 32 << 20 // bytes of one
	maxNesting   = 100      // objects and lists within each other, of what is skipped
)

// A list is a list that a registry gives in pages.
type list[T any] struct {
	member  string // of each page's JSON object
	most    int    // elements on all pages
	element int64  // bytes of one
	add     func(T) (isNew bool)
}

// readPages hands every element of the pages that q asks for to l. Pages that
// lead nowhere, such as a page that is followed by itself, are an error.
func readPages[T any](ctx context.Context, r *Registry, q request, l list[T]) error {
	left, vain := l.most, 0
	seen := map[[sha256.Size]byte]bool{}
	for range maxPages {
		key := sha256.Sum256([]byte(q.query.Encode()))
		if seen[key] {
			return malformedError{errors.New("a page is followed by one that came before")}
		}
		seen[key] = true
		resp, err := r.do(ctx, q)
		if err != nil {
			return err
		}
		n, fresh, err := readPage(resp, l, left)
		if err != nil {
			return err
		}
		if left -= n; fresh > 0 {
			vain = 0
		} else if vain++; vain > maxVainPages {
			return malformedError{fmt.Errorf("%d pages in a row have nothing new", vain)}
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

// A malformedError says that a registry's answer came, and is not what was asked
// for.
type malformedError struct{ error }

// Error implements error.
func (e malformedError) Error() string { return "the answer cannot be read: " + e.error.Error() }

// Unwrap returns the cause.
func (e malformedError) Unwrap() error { return e.error }

// readPage reads a page of at most limit elements, and closes it. It returns
// how many elements there are, and how many were new.
func readPage[T any](resp *http.Response, l list[T], limit int) (n, fresh int, err error) {
	defer drain(resp.Body)
	body := &bounded{r: resp.Body, left: maxPage}
	n, fresh, err = readMembers(body, json.NewDecoder(body), l, limit)
	if err != nil {
		err = cmp.Or[error](body.err, malformedError{err})
	}
	return n, fresh, err
}

func readMembers[T any](body *bounded, dec *json.Decoder, l list[T], limit int) (n, fresh int, err error) {
	if err := body.delim(dec, '{'); err != nil {
		return 0, 0, err
	}
	listed := false
	for body.more(dec) {
		name, err := body.token(dec)
		if err != nil {
			return n, fresh, err
		}
		if name != l.member {
			if err := body.skip(dec); err != nil {
				return n, fresh, err
			}
			continue
		}
		listed = true
		some, added, err := readElements(body, dec, l, limit-n)
		if n, fresh = n+some, fresh+added; err != nil {
			return n, fresh, err
		}
	}
	if err := body.delim(dec, '}'); err != nil {
		return n, fresh, err
	}
	if !listed {
		return n, fresh, fmt.Errorf("it has no %s", l.member)
	}
	return n, fresh, nil
}

// readElements reads a list of at most limit elements, or null.
func readElements[T any](body *bounded, dec *json.Decoder, l list[T], limit int) (n, fresh int, err error) {
	switch first, err := body.token(dec); {
	case err != nil || first == nil:
		return 0, 0, err
	case first != json.Delim('['):
		return 0, 0, fmt.Errorf("%s is no list", l.member)
	}
	for body.more(dec) {
		if n++; n > limit {
			return n, fresh, fmt.Errorf("there are more than %d %s", l.most, l.member)
		}
		var element T
		body.allow(l.element)
		if err := dec.Decode(&element); err != nil {
			return n, fresh, err
		}
		if l.add(element) {
			fresh++
		}
	}
	return n, fresh, body.delim(dec, ']')
}

// A bounded is the body of an answer that a [json.Decoder] reads piece by
// piece: the decoder keeps a piece whole, so no piece may be large.
type bounded struct {
	r     io.Reader
	left  int64 // bytes of all
	piece int64 // bytes until the piece must have ended
	err   error // of the link
}

// token are the bytes that one token may take, and the decoder reads ahead.
const token = 64 << 10

// Read implements [io.Reader].
func (b *bounded) Read(p []byte) (int, error) {
	switch {
	case b.left <= 0:
		return 0, fmt.Errorf("it has more than %d MiB", maxPage>>20)
	case b.piece <= 0:
		return 0, errors.New("it has a text or an element that is too long")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left, b.piece)])
	b.left, b.piece = b.left-int64(n), b.piece-int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// allow lets the next piece have so many bytes.
func (b *bounded) allow(bytes int64) { b.piece = bytes }

func (b *bounded) token(dec *json.Decoder) (json.Token, error) {
	b.allow(token)
	return dec.Token()
}

func (b *bounded) more(dec *json.Decoder) bool {
	b.allow(token)
	return dec.More()
}

// delim reads a token that must be want.
func (b *bounded) delim(dec *json.Decoder, want json.Delim) error {
	got, err := b.token(dec)
	if err == nil && got != want {
		err = fmt.Errorf("it has %.20q for %s", fmt.Sprint(got), want)
	}
	return err
}

// skip reads a value of any size, and keeps nothing of it.
func (b *bounded) skip(dec *json.Decoder) error {
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
