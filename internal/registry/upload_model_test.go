package registry_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

// The test sends valid and invalid requests to an upload in random order. The state of
// the upload must always match the answers, and the blob must match the sent bytes.
func TestUploadStateMatchesItsAnswers(t *testing.T) {
	s := newInstance(t)
	rapid.Check(t, func(r *rapid.T) {
		location, sent, live := s.start(), "", true
		check := func(a answer, status int) {
			if a.status != status {
				r.Fatalf("status %d, want %d: %s", a.status, status, a.body)
			}
			if want := fmt.Sprintf("0-%d", max(len(sent)-1, 0)); live && status != 201 &&
				a.header.Get("Range") != want {
				r.Fatalf("Range %q, want %s", a.header.Get("Range"), want)
			}
		}
		chunk := rapid.StringMatching(`[a-z]{1,20}`)
		span := func(from, n int) string { return fmt.Sprintf("Content-Range: %d-%d", from, from+n-1) }
		r.Repeat(map[string]func(*rapid.T){
			"chunk": func(r *rapid.T) {
				text := chunk.Draw(r, "text")
				status := 404
				headers := []string{span(len(sent), len(text))}
				if rapid.Bool().Draw(r, "without a range") {
					headers = nil
				}
				if live {
					sent, status = sent+text, 202
				}
				check(s.do("PATCH", location, text, headers...), status)
			},
			"chunk elsewhere": func(r *rapid.T) {
				from := rapid.IntRange(0, len(sent)+30).Filter(func(n int) bool { return n != len(sent) }).Draw(r,
					"from")
				status := 404
				if live {
					status = 416
				}
				check(s.do("PATCH", location, "x", span(from, 1)), status)
			},
			"chunk that is shorter than it says": func(r *rapid.T) {
				text := chunk.Draw(r, "text")
				status, start := 404, len(sent)
				if live {
					sent, status = sent+text, 400
				}
				check(s.send("PATCH", location, io.MultiReader(strings.NewReader(text)), span(start, len(text)+1)),
					status)
			},
			"state": func(r *rapid.T) {
				status := 404
				if live {
					status = 204
				}
				check(s.do("GET", location, ""), status)
			},
			"cancel": func(r *rapid.T) {
				status := 404
				if live {
					live, status = false, 204
				}
				check(s.do("DELETE", location, ""), status)
			},
			"end with nonsense": func(r *rapid.T) {
				if a := s.do("PUT", location+"?digest=sha256:x", ""); a.status != 400 {
					r.Fatalf("status %d: %s", a.status, a.body)
				}
			},
			"end": func(r *rapid.T) {
				algorithm := rapid.SampledFrom([]digest.Algorithm{digest.SHA256, digest.SHA512}).Draw(r, "algorithm")
				text := rapid.SampledFrom([]string{"", "the end"}).Draw(r, "text")
				status := 404
				if live {
					sent, live, status = sent+text, false, 201
				}
				a := s.do("PUT", location+"?digest="+algorithm.FromString(sent).String(), text)
				check(a, status)
				if status == 201 {
					if got := s.do("GET", a.header.Get("Location"), ""); got.body != sent {
						r.Fatalf("blob %q, want %q", got.body, sent)
					}
				}
			},
		})
	})
}
