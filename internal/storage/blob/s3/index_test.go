package s3

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ferry/internal/storage/blob"
)

// TestIndexNamesTheLastWriteOfEachByte compares an index with an array that has the number of the
// write of each byte.
func TestIndexNamesTheLastWriteOfEachByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 48
		var want [size]int // 0 is none
		x := &index{Version: indexVersion}
		gone := map[string]bool{}
		for n := 1; n <= rapid.IntRange(0, 20).Draw(t, "writes"); n++ {
			start := rapid.Int64Range(0, size-1).Draw(t, "start")
			end := rapid.Int64Range(start+1, size).Draw(t, "end")
			write, name := n, string(rune('a'+n))
			var left []string
			if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				write = 0
				left = x.cut(blob.Range{Start: start, End: end})
			} else {
				left = x.put(piece{Object: name, ETag: "e", Start: start, End: end})
			}
			for _, name := range left {
				gone[name] = true
			}
			for i := start; i < end; i++ {
				want[i] = write
			}
		}
		again, err := parseIndex(x.text())
		if err != nil {
			t.Fatal(err)
		}
		var got [size]int
		for _, p := range again.Pieces {
			if gone[p.Object] {
				t.Errorf("%s is still named", p.Object)
			}
			for i := p.Start; i < p.End; i++ {
				got[i] = int(p.Object[0] - 'a')
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for i := range int64(size) {
			p, gap := again.find(i)
			if named := gap == 0; named != (want[i] != 0) || named && (i < p.Start || i >= p.End) {
				t.Errorf("byte %d is in %v, gap %d", i, p, gap)
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"version":1,"writer":"x","pieces":[{"object":"a","etag":"e","from":0,"start":0,"end":5}]}`))
	f.Add([]byte(`{"version":1,"pieces":[{"object":"../a","etag":"e","start":3,"end":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := parseIndex(text)
		if err != nil {
			return
		}
		again, err := parseIndex(x.text())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x, again); diff != "" {
			t.Error(diff)
		}
		end := int64(0)
		for _, p := range x.Pieces {
			if p.Start < end || p.End <= p.Start {
				t.Errorf("piece %+v overlaps or is empty", p)
			}
			end = p.End
		}
		_, _ = x.parts()
		_, _ = json.Marshal(x.cut(blob.Range{Start: 1, End: 2}))
	})
}

func FuzzLocation(f *testing.F) {
	f.Add("s3://bucket/prefix")
	f.Add("s3://bucket/../x")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLocation(text)
		if err != nil {
			return
		}
		if again, err := ParseLocation(l.String()); err != nil || again != l {
			t.Errorf("%q is %+v, and again %+v, %v", text, l, again, err)
		}
	})
}
