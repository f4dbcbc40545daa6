package gateway

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"

	"ferry/internal/jsonlimit"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

func FuzzReadPlan(f *testing.F) {
	f.Add([]byte(`{"missing":{"repository":"a","digest":"sha256:0","reason":"gone"}}` + "\n" + `{"end":{"entries":1}}`))
	f.Add([]byte(`{"blob":{"repository":"a","digest":"","size":-1,"data":"AA==","fetchMethods":[{"kind":"whole"}]}}`))
	f.Add([]byte("{}\n{}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		entries := 0
		err := readPlan(bytes.NewReader(body), func(replication.PlanEntry) error { entries++; return nil })
		if lines := bytes.Count(body, []byte("\n")) + 1; entries > lines {
			t.Errorf("%d entries from %d lines, %v", entries, lines, err)
		}
	})
}

func FuzzReadBatch(f *testing.F) {
	want := []replication.Ref{{Repository: "a", Digest: "sha256:0"}, {Repository: "a", Digest: "sha256:1"},
		{Repository: "b", Digest: "sha256:2"}}
	f.Add([]byte(`{"digest":"sha256:0","size":2}` + "\nab" + `{"digest":"sha256:1","missing":"gone"}` + "\n" +
		`{"digest":"sha256:2"}` + "\n"))
	f.Add([]byte(`{"digest":"sha256:0","size":99999999999}` + "\n"))
	f.Add(bytes.Repeat([]byte(" "), 2*maxBatchEntry))
	f.Fuzz(func(t *testing.T, body []byte) {
		next, total := 0, int64(0)
		err := readBatch(bytes.NewReader(body), want, func(i int, size int64, content io.Reader) error {
			if i != next || size > BatchLimit {
				t.Errorf("blob %d of %d bytes, want blob %d", i, size, next)
			}
			if next++; content == nil {
				return nil
			}
			n, err := io.Copy(io.Discard, content)
			if total += n; n < size && err == nil {
				err = io.ErrUnexpectedEOF
			}
			return err
		})
		if total > int64(len(body)) || err == nil && next != len(want) {
			t.Errorf("%d blobs with %d bytes from %d, %v", next, total, len(body), err)
		}
	})
}

func FuzzReadPush(f *testing.F) {
	const d = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	f.Add([]byte(`{"changes":[{"repository":"a/b","tag":"v1","digest":"` + d + `","base":"","earlier":[""]}]}`))
	f.Add([]byte(`{"changes":[{"repository":"a","manifest":"` + d + `"},{"repository":"a"}]}`))
	f.Add([]byte(`{"changes":[{"repository":"../a","tag":"a/b","digest":"sha256:x","keepAs":"","base":"v1"}]}`))
	requests := jsonlimit.New[wire.PushRequest](maxRequestValues)
	digests := regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})?$`)
	f.Fuzz(func(t *testing.T, body []byte) {
		var q wire.PushRequest
		if _, err := requests.Unmarshal(body, &q); err != nil || checkPush(q) != nil {
			return
		}
		if len(q.Changes) > wire.MaxPushChanges {
			t.Errorf("%d changes", len(q.Changes))
		}
		for _, c := range q.Changes {
			if c.Repository == "" || strings.Contains(c.Repository, "..") || strings.Contains(c.Tag+c.KeepAs, "/") {
				t.Errorf("names: %+v", c)
			}
			if c.Tag != "" && (c.Manifest != "" || c.Tag == c.KeepAs) || len(c.Earlier) > wire.MaxPushEarlier {
				t.Errorf("change: %+v", c)
			}
			for _, d := range append(c.Earlier, c.Manifest, c.Digest, c.Base) {
				if !digests.MatchString(string(d)) {
					t.Errorf("digest %q", d)
				}
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	const limit = 1 << 16
	c := newCodec(limit)
	body, encoding, err := c.encode(wire.PollRequest{Name: strings.Repeat("ship", 1000)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, encoding)
	f.Add([]byte(`{"name":"ship1"}`), "")
	requests := jsonlimit.New[wire.PollRequest](limit)
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		text, err := c.plain(body, encoding)
		if err != nil {
			return
		}
		if len(text) > max(limit, len(body)) {
			t.Fatalf("%d bytes came through a limit of %d", len(text), limit)
		}
		var q wire.PollRequest
		if _, err := requests.Unmarshal(text, &q); err == nil && len(q.Name) > limit {
			t.Errorf("a name of %d bytes came through a limit of %d", len(q.Name), limit)
		}
	})
}
