package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"ferry/internal/jsonlimit"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// planOf returns a plan with manifests that have these payloads.
func planOf(t *testing.T, payloads ...[]byte) []byte {
	t.Helper()
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	for _, p := range payloads {
		e := wire.PlanEntry{Manifest: &wire.PlanManifest{Repository: "a", Payload: p,
			LeftOut: []digest.Digest{"sha256:0"}}}
		if err := out.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Encode(wire.PlanEntry{End: &wire.PlanEnd{Entries: len(payloads)}}); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func TestLongPlanEntryIsReadLikeAShortOne(t *testing.T) {
	var payloads [][]byte
	for _, size := range []int{0, 1, 48 << 10, 49 << 10, 50 << 10, 64<<10 - 1, 64 << 10, 1 << 20, oci.MaxManifestSize} {
		payloads = append(payloads, bytes.Repeat([]byte(`{"a"}`), size/5+1)[:size])
	}
	text := planOf(t, payloads...)
	for name, body := range map[string]io.Reader{
		"at once": bytes.NewReader(text), "in halves": iotest.HalfReader(bytes.NewReader(text)),
	} {
		n := 0
		err := readPlan(body, func(e replication.PlanEntry) error {
			if !bytes.Equal(e.Manifest.Payload, payloads[n]) || len(e.Manifest.OmittedChildren) != 1 {
				t.Errorf("%s: a payload of %d bytes comes as %d", name, len(payloads[n]), len(e.Manifest.Payload))
			}
			n++
			return nil
		})
		if err != nil || n != len(payloads) {
			t.Errorf("%s: %d of %d entries, %v", name, n, len(payloads), err)
		}
	}
}

func TestMalformedLongPlanEntryIsRefused(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	encoded := base64.StdEncoding.EncodeToString([]byte(long))
	large := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), oci.MaxManifestSize+1))
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"cut off in the payload": {`{"manifest":{"payload":"` + encoded, io.ErrUnexpectedEOF},
		"cut off behind it":      {`{"manifest":{"payload":"` + encoded + `"`, io.ErrUnexpectedEOF},
		"a payload too large":    {`{"manifest":{"payload":"` + large + `"}}` + "\n", jsonlimit.ErrTooLarge},
		"a line too long": {`{"missing":{"reason":"` + strings.Repeat("x", maxPlanEntry+1),
			jsonlimit.ErrTooLarge},
		"no base64":                {`{"manifest":{"payload":"` + long + `%"}}` + "\n", nil},
		"two payloads":             {`{"manifest":{"payload":"` + encoded + `","payload":"AAAA"}}` + "\n", nil},
		"a payload of no manifest": {`{"blob":{"payload":"` + encoded + `"}}` + "\n", nil},
	} {
		err := readPlan(strings.NewReader(c.text), func(replication.PlanEntry) error { return nil })
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
