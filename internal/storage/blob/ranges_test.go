package blob

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestRangesAreASetOfBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 64
		var bytes [size]bool
		var rs Ranges
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			start := rapid.Int64Range(0, size).Draw(t, "start")
			end := rapid.Int64Range(start, size).Draw(t, "end")
			add := rapid.IntRange(0, 2).Draw(t, "cut") > 0
			if add {
				rs = rs.Add(Range{start, end})
			} else {
				rs = rs.Cut(Range{start, end})
			}
			for i := start; i < end; i++ {
				bytes[i] = add
			}
		}
		if err := rs.Check(size); err != nil {
			t.Fatalf("%v: %v", rs, err)
		}
		total, prefix, begun := int64(0), int64(0), true
		for _, b := range bytes {
			if begun = begun && b; begun {
				prefix++
			}
			if b {
				total++
			}
		}
		if rs.Total() != total || rs.Prefix() != prefix {
			t.Fatalf("%v has %d bytes, %d in front; want %d and %d", rs, rs.Total(), rs.Prefix(), total, prefix)
		}
		within := Range{rapid.Int64Range(0, size).Draw(t, "from"), size}
		for _, gap := range rs.Missing(within) {
			if gap.Len() <= 0 || gap.Start < within.Start {
				t.Fatalf("%v misses %v", rs, gap)
			}
			for i := gap.Start; i < gap.End; i++ {
				if bytes[i] {
					t.Fatalf("%v does not miss byte %d", rs, i)
				}
				bytes[i] = true
			}
		}
		for i := within.Start; i < within.End; i++ {
			if !bytes[i] {
				t.Fatalf("%v misses byte %d and does not say so", rs, i)
			}
		}
		text, err := json.Marshal(rs)
		if err != nil {
			t.Fatal(err)
		}
		var again Ranges
		if err := json.Unmarshal(text, &again); err != nil || again.Total() != total || again.Check(size) != nil {
			t.Fatalf("%s reads as %v, %v", text, again, err)
		}
	})
}

func TestMalformedRangesAreFound(t *testing.T) {
	for _, rs := range []Ranges{{{-1, 2}}, {{0, 0}}, {{3, 2}}, {{0, 11}}, {{4, 6}, {0, 2}}, {{0, 4}, {3, 6}},
		{{0, 4}, {4, 6}}} {
		if rs.Check(10) == nil {
			t.Errorf("%v passes", rs)
		}
	}
}
