package blob

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A Range is the bytes from Start up to End, without End.
type Range struct{ Start, End int64 }

// Len returns the number of bytes in the range.
func (r Range) Len() int64 { return r.End - r.Start }

// MarshalJSON writes the range as a pair.
func (r Range) MarshalJSON() ([]byte, error) { return json.Marshal([2]int64{r.Start, r.End}) }

// UnmarshalJSON reads a pair.
func (r *Range) UnmarshalJSON(b []byte) error {
	var pair [2]int64
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	*r = Range{pair[0], pair[1]}
	return nil
}

// Ranges is a set of bytes: sorted, not empty, and with a gap between any two.
type Ranges []Range

// Text returns the set in its stored form, a JSON array of pairs.
func (rs Ranges) Text() string {
	text, err := json.Marshal(rs)
	if err != nil {
		panic(err) // numbers can be encoded
	}
	return string(text)
}

// Add returns the set with r in it. It may modify the set that it is called on.
func (rs Ranges) Add(r Range) Ranges {
	if r.Start >= r.End {
		return rs
	}
	// first is the first range that ends at the start of r or later. last is after the last
	// range that begins at the end of r or earlier. All of these are joined with r.
	first, _ := slices.BinarySearchFunc(rs, r.Start,
		func(e Range, start int64) int { return cmp.Compare(e.End, start) })
	last := first
	for last < len(rs) && rs[last].Start <= r.End {
		r.Start, r.End = min(r.Start, rs[last].Start), max(r.End, rs[last].End)
		last++
	}
	return slices.Replace(rs, first, last, r)
}

// Cut returns the set without r. It may modify the set that it is called on.
func (rs Ranges) Cut(r Range) Ranges {
	if r.Start >= r.End {
		return rs
	}
	// first is the first range that ends after the start of r. last is after the last range that
	// begins before the end of r.
	first, _ := slices.BinarySearchFunc(rs, r.Start+1,
		func(e Range, start int64) int { return cmp.Compare(e.End, start) })
	last := first
	var rest []Range
	for last < len(rs) && rs[last].Start < r.End {
		for _, part := range []Range{{rs[last].Start, r.Start}, {r.End, rs[last].End}} {
			if part.Start < part.End {
				rest = append(rest, part)
			}
		}
		last++
	}
	return slices.Replace(rs, first, last, rest...)
}

// Missing returns the parts of within that are not in the set.
func (rs Ranges) Missing(within Range) []Range {
	var gaps []Range
	at := within.Start
	for _, r := range rs {
		if r.Start >= within.End {
			break
		}
		if r.Start > at {
			gaps = append(gaps, Range{at, r.Start})
		}
		at = max(at, r.End)
	}
	if at < within.End {
		gaps = append(gaps, Range{at, within.End})
	}
	return gaps
}

// Prefix returns the number of bytes in the set before its first gap.
func (rs Ranges) Prefix() int64 {
	if len(rs) == 0 || rs[0].Start != 0 {
		return 0
	}
	return rs[0].End
}

// Total returns the number of bytes in the set.
func (rs Ranges) Total() (n int64) {
	for _, r := range rs {
		n += r.Len()
	}
	return n
}

// Check returns an error if the set, which was read from disk, is not one of the first size
// bytes.
func (rs Ranges) Check(size int64) error {
	at := int64(-1)
	for _, r := range rs {
		if r.Start <= at || r.End <= r.Start || r.End > size {
			return fmt.Errorf("ranges are malformed")
		}
		at = r.End
	}
	return nil
}
