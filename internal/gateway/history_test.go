package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// A history is what happens to repositories at random.
type history struct {
	*fixture
	random       *rand.Rand
	repositories []string
	pushed       map[string][]digest.Digest
	coming       map[string][]string // payloads of manifests that others refer to already
	steps        int
}

func newHistory(f *fixture, random *rand.Rand, repositories ...string) *history {
	return &history{fixture: f, random: random, repositories: repositories, pushed: map[string][]digest.Digest{}, coming: map[string][]string{}}
}

// step changes something. What it would remove, or refer to, may not be there.
func (h *history) step(t *testing.T) {
	t.Helper()
	h.steps++
	h.later.Add(h.random.Int64N(3))
	ctx, repository := t.Context(), h.repositories[h.random.IntN(len(h.repositories))]
	tag := []string{"x0", "x1", "x2", "x3", "y0", "y1"}[h.random.IntN(6)]
	some := digest.FromString("none")
	if pushed := h.pushed[repository]; len(pushed) > 0 {
		some = pushed[h.random.IntN(len(pushed))]
	}
	var tags []string
	if h.random.IntN(2) == 0 {
		tags = []string{tag}
	}
	seed := fmt.Sprint(h.steps)
	switch h.random.IntN(21) {
	case 0:
		_ = h.DeleteTag(ctx, repository, tag)
	case 1:
		_ = h.DeleteTag(ctx, repository, signature(some))
	case 2, 3:
		_ = h.DeleteManifest(ctx, repository, some)
	case 4:
		h.put(t, repository, h.payload(seed, ""), nil, signature(some))
	case 5, 6:
		_ = h.SetTag(ctx, repository, tag, some)
	case 7, 8, 9:
		h.putIndex(t, repository, some, tags)
	case 10, 11:
		h.put(t, repository, h.payload(seed, some), nil, tags...)
	case 12: // a referrer before its subject, which may be one, too
		subject := h.payload(seed, []digest.Digest{"", some}[h.random.IntN(2)])
		h.coming[repository] = append(h.coming[repository], subject)
		h.put(t, repository, h.payload("first "+seed, digest.FromString(subject)), nil)
	case 13:
		if coming := h.coming[repository]; len(coming) > 0 {
			h.put(t, repository, coming[0], nil, tags...)
			h.coming[repository] = coming[1:]
		}
	case 14:
		if h.random.IntN(4) == 0 {
			_ = h.DeleteRepository(ctx, repository)
		}
	default:
		h.put(t, repository, h.payload(seed, ""), nil, tags...)
	}
}

// putIndex puts an index of one or two manifests that are there, which may be one
// that is there already and holds something else now.
func (h *history) putIndex(t *testing.T, repository string, child digest.Digest, tags []string) {
	t.Helper()
	children := []digest.Digest{child}
	if pushed := h.pushed[repository]; len(pushed) > 0 && h.random.IntN(2) == 0 {
		children = append(children, pushed[h.random.IntN(len(pushed))])
	}
	var texts []string
	var leftOut []digest.Digest
	for i, d := range children {
		if has, err := h.HasManifest(t.Context(), repository, d); err != nil || !has {
			return
		}
		texts = append(texts, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"platform":{"os":"linux","architecture":%q}}`,
			oci.MediaTypeImageManifest, d, []string{"amd64", "arm64"}[i]))
		if h.random.IntN(4) == 0 {
			leftOut = append(leftOut, d)
		}
	}
	payload := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeImageIndex, strings.Join(texts, ","))
	h.put(t, repository, payload, leftOut, tags...)
	if h.random.IntN(2) == 0 {
		h.put(t, repository, payload, nil)
	}
}

func (h *history) put(t *testing.T, repository, payload string, leftOut []digest.Digest, tags ...string) {
	t.Helper()
	if has, err := h.hasConfig(t, repository); err != nil || !has {
		h.blob(t, repository, []byte("{}"))
	}
	m, err := h.PutManifest(t.Context(), storage.Put{Repository: repository, Payload: []byte(payload), Tags: tags, LeftOut: leftOut})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(h.pushed[repository], m.Digest) {
		h.pushed[repository] = append(h.pushed[repository], m.Digest)
	}
}

// hasConfig reports whether the config of every payload is there.
func (h *history) hasConfig(t *testing.T, repository string) (bool, error) {
	content, _, err := h.OpenBlob(t.Context(), repository, digest.FromString("{}"))
	if err != nil {
		return false, nil
	}
	return true, content.Close()
}

// payload is that of an image without layers; its subject may be "".
func (h *history) payload(seed string, subject digest.Digest) string {
	refers := ""
	if subject != "" {
		refers = fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":1}`, oci.MediaTypeImageManifest, subject)
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"seed":%q}%s}`,
		oci.MediaTypeImageManifest, digest.FromString("{}"), seed, refers)
}

// listingSeeds is how many random histories a test tries.
func listingSeeds(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("LISTING_SEEDS")
	if text == "" {
		return 20
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
