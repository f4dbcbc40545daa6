package s3

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"ferry/internal/storage/blob"
)

// An index says which bytes a partial has. It is an object of its own, which is written after
// the content, and only if it is still the one that the writer has read: so a process that lost
// the partial to another one changes nothing. An object that no index names does not count.
type index struct {
	Version int     `json:"version"`
	Writer  string  `json:"writer"` // a random text, which tells one write from another
	Pieces  []piece `json:"pieces"` // in order, without overlap
}

// A piece is a part of an object that has a part of a partial.
type piece struct {
	Object string `json:"object"` // its name below the partial; no two writes have the same
	ETag   string `json:"etag"`
	From   int64  `json:"from"` // in the object
	Start  int64  `json:"start"`
	End    int64  `json:"end"` // in the partial, like Start
}

func (e piece) span() blob.Range { return blob.Range{Start: e.Start, End: e.End} }

// part returns the part of e that is in r.
func (e piece) part(r blob.Range) piece {
	start := max(e.Start, r.Start)
	e.From += start - e.Start
	e.Start, e.End = start, min(e.End, r.End)
	return e
}

const (
	indexVersion = 1
	// maxIndex is the size of the largest index, in bytes. One of maxParts cells is smaller, and
	// so is one of a transfer with a hundred gaps.
	maxIndex = 16 << 20
)

var (
	segmentName = regexp.MustCompile(`^[a-z0-9-]{1,80}$`)
	etagForm    = regexp.MustCompile(`^[!#-~]{1,200}$`)
)

// parseIndex reads an index. Whatever it accepts can be used: the pieces are in order, do not
// overlap, and name only objects of the partial.
func parseIndex(text []byte) (*index, error) {
	x := &index{}
	if err := json.Unmarshal(text, x); err != nil {
		return nil, fmt.Errorf("index is malformed: %w", err)
	}
	if x.Version != indexVersion {
		return nil, fmt.Errorf("index has version %d, and this program knows %d", x.Version, indexVersion)
	}
	end := int64(0)
	for _, e := range x.Pieces {
		if e.Start < end || e.End <= e.Start || e.End > maxSize || e.From < 0 || e.From > maxSize ||
			!segmentName.MatchString(e.Object) || !etagForm.MatchString(e.ETag) {
			return nil, errors.New("index is malformed")
		}
		end = e.End
	}
	return x, nil
}

// text returns the index in its stored form.
func (x *index) text() []byte {
	text, err := json.Marshal(x)
	if err != nil {
		panic(err) // it consists of texts and numbers
	}
	return text
}

// size returns the offset after the last byte.
func (x *index) size() int64 {
	if len(x.Pieces) == 0 {
		return 0
	}
	return x.Pieces[len(x.Pieces)-1].End
}

// cut removes the bytes of r, and returns the names of objects of which nothing is left.
func (x *index) cut(r blob.Range) (gone []string) {
	if r.Start >= r.End {
		return nil
	}
	var rest []piece
	for _, e := range x.Pieces {
		if e.End <= r.Start || e.Start >= r.End {
			rest = append(rest, e)
			continue
		}
		left := 0
		for _, part := range []piece{e.part(blob.Range{Start: e.Start, End: r.Start}),
			e.part(blob.Range{Start: r.End, End: e.End})} {
			if part.Start < part.End {
				rest = append(rest, part)
				left++
			}
		}
		if left == 0 {
			gone = append(gone, e.Object)
		}
	}
	x.Pieces = rest
	return slices.DeleteFunc(gone, func(name string) bool {
		return slices.ContainsFunc(rest, func(e piece) bool { return e.Object == name })
	})
}

// put adds a piece in place of what is there, and returns the names of objects of which
// nothing is left.
func (x *index) put(e piece) (gone []string) {
	gone = x.cut(e.span())
	at, _ := slices.BinarySearchFunc(x.Pieces, e.Start, func(e piece, start int64) int {
		return cmp.Compare(e.Start, start)
	})
	x.Pieces = slices.Insert(x.Pieces, at, e)
	return gone
}

// find returns the piece with the byte at offset, or how many bytes there are without one.
func (x *index) find(offset int64) (e piece, gap int64) {
	at, _ := slices.BinarySearchFunc(x.Pieces, offset+1, func(e piece, offset int64) int {
		return cmp.Compare(e.End, offset)
	})
	switch {
	case at == len(x.Pieces):
		return piece{}, maxSize
	case x.Pieces[at].Start > offset:
		return piece{}, x.Pieces[at].Start - offset
	}
	return x.Pieces[at], 0
}
