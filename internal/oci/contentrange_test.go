package oci

import (
	"errors"
	"fmt"
	"testing"
)

func TestContentRangeIsParsed(t *testing.T) {
	for header, want := range map[string][2]int64{
		"bytes 0-99/1234": {0, 100}, "bytes 5-5/6": {5, 6}, "bytes 0-0/*": {0, 1},
		"bytes 4611686018427387902-4611686018427387903/*": {1<<62 - 2, 1 << 62},
	} {
		if start, end, err := ParseContentRange(header); err != nil || start != want[0] || end != want[1] {
			t.Errorf("%s: %d, %d, %v", header, start, end, err)
		}
	}
	for _, header := range []string{
		"", "bytes", "bytes ", "bytes 0-99", "0-99/100", "bytes=0-99/100", "bytes */100", "bytes 0-100/100",
		"bytes 5-4/100", "bytes -5/100", "bytes 5-/100",
		"bytes 0-99/x", "bytes 0-99/", "bytes 0-99/-1", "bytes +0-99/100", "bytes 0x0-99/100", "bytes 0 - 99/100",
		"bytes 0-99/100 ", "bits 0-99/100",
		"bytes 0-9223372036854775807/*", "bytes 0-99999999999999999999/*", "bytes 0-99/99999999999999999999",
		"bytes 1_0-2_0/100",
	} {
		if start, end, err := ParseContentRange(header); err == nil {
			t.Errorf("%q: %d, %d", header, start, end)
		}
	}
}

func TestUploadRangeIsParsed(t *testing.T) {
	for header, want := range map[string][2]int64{"0-99": {0, 100}, "7-7": {7, 8}, "bytes 1-2": {1, 3}} {
		if start, end, err := ParseUploadRange(header); err != nil || start != want[0] || end != want[1] {
			t.Errorf("%s: %d, %d, %v", header, start, end, err)
		}
	}
	for _, header := range []string{"", "-", "5", "5-", "-5", "5-4", "a-b", "0-1-2", "0-9/10", "bytes=0-9",
		"0-9223372036854775807", "0--1", " 0-1"} {
		if start, end, err := ParseUploadRange(header); !errors.Is(err, ErrBlobUploadInvalid) {
			t.Errorf("%q: %d, %d, %v", header, start, end, err)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-99/1234", "bytes 0-0/*", "bytes */5", "0-99"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if start, end, err := ParseContentRange(s); err == nil {
			if start < 0 || end <= start {
				t.Fatalf("%q: %d, %d", s, start, end)
			}
			again, last, err := ParseContentRange(fmt.Sprintf("bytes %d-%d/*", start, end-1))
			if err != nil || again != start || last != end {
				t.Fatalf("%q: %d, %d, %v", s, again, last, err)
			}
		}
		if start, end, err := ParseUploadRange(s); err == nil && (start < 0 || end <= start) {
			t.Fatalf("%q: %d, %d", s, start, end)
		}
	})
}

func TestRangeIsCleanedForServeContent(t *testing.T) {
	for header, want := range map[string]string{
		"bytes=0-1":       "bytes=0-1",
		"Bytes=0-1":       "bytes=0-1",
		"bytes=-0":        "bytes=9223372036854775807-",
		"bytes=-000,2-3":  "bytes=9223372036854775807-,2-3",
		"bytes= 2-3 , -1": "bytes=2-3,-1",
		"bytes=-":         "bytes=-",
		"bytes=x":         "bytes=x",
		"items=0-1":       "",
		"seconds":         "",
		"bytes 0-1":       "",
	} {
		if got := CleanRange(header); got != want {
			t.Errorf("%q becomes %q, want %q", header, got, want)
		}
	}
}

func FuzzCleanRange(f *testing.F) {
	f.Add("bytes=0-1,-0")
	f.Add("Bytes=-0")
	f.Fuzz(func(t *testing.T, header string) {
		if clean := CleanRange(header); CleanRange(clean) != clean {
			t.Errorf("%q becomes %q, then %q", header, clean, CleanRange(clean))
		}
	})
}
