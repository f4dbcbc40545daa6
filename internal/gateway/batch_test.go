package gateway_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// wantBlob stores content in a repository, and asks for it.
func (f *fixture) wantBlob(t *testing.T, repository string, content []byte) replication.Ref {
	t.Helper()
	return replication.Ref{Repository: repository, Digest: f.PushBlob(repository, content).Digest}
}

// batch returns the blobs that came, with "-" for a missing one.
func (f *fixture) batch(t *testing.T, want ...replication.Ref) (all []string) {
	t.Helper()
	err := f.client.Batch(t.Context(), want, func(i int, size int64, content io.Reader) error {
		if content == nil {
			all = append(all, "-")
			return nil
		}
		text, err := io.ReadAll(content)
		if int64(len(text)) != size {
			t.Errorf("blob %d has %d bytes, not %d", i, len(text), size)
		}
		all = append(all, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBatchHasOnlyReadableBlobsInOrder(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	first, second, empty := f.wantBlob(t, "app/a", []byte("first\n")), f.wantBlob(t, "app/b",
		[]byte("second")), f.wantBlob(t, "app/a", nil)
	secret := f.wantBlob(t, "other/a", []byte("secret"))
	large := f.wantBlob(t, "app/a", make([]byte, gateway.BatchLimit+1))
	unknown := replication.Ref{Repository: "app/a", Digest: digest.FromString("unknown")}
	odd := replication.Ref{Repository: "app/../a", Digest: "no digest"}
	got := f.batch(t, second, secret, first, large, empty, unknown, odd, first)
	if diff := cmp.Diff([]string{"second", "-", "first\n", "-", "", "-", "-", "first\n"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBatchContinuesAfterUnreadContent(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	want := []replication.Ref{f.wantBlob(t, "app/a", bytes.Repeat([]byte("x"), 100<<10)),
		f.wantBlob(t, "app/a", []byte("y"))}
	seen := 0
	err := f.client.Batch(t.Context(), want, func(i int, size int64, _ io.Reader) error {
		seen++
		return nil
	})
	if err != nil || seen != 2 {
		t.Errorf("%d blobs, %v", seen, err)
	}
	stop := errors.New("enough")
	if err := f.client.Batch(t.Context(), want, func(int, int64, io.Reader) error { return stop }); !errors.Is(err,
		stop) {
		t.Errorf("the caller's error became %v", err)
	}
}

func TestBatchIsLimitedAndAuthenticated(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	want := f.wantBlob(t, "app/a", []byte("x"))
	nothing := func(int, int64, io.Reader) error { return nil }
	many := make([]replication.Ref, gateway.MaxBatch+1)
	for i := range many {
		many[i] = want
	}
	answer := (*gateway.AnswerError)(nil)
	if err := f.client.Batch(t.Context(), many, nothing); !errors.As(err, &answer) || answer.Status != 400 {
		t.Errorf("%d blobs: %v", len(many), err)
	}
	if err := f.as(t, "wrong").Batch(t.Context(), many[:1], nothing); !errors.Is(err, gateway.ErrUnauthorized) {
		t.Errorf("without authentication: %v", err)
	}
}

func TestPlanOffersBatchesForSmallBlobs(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	for size, want := range map[int]bool{wire.InlineLimit: false, wire.InlineLimit + 1: true, gateway.BatchLimit: true,
		gateway.BatchLimit + 1: false} {
		image := f.image("app/a", strings.Repeat("x", size-len("layer ")))
		found := false
		for _, e := range f.plan(t, []digest.Digest{image}, nil) {
			if e.Blob == nil || e.Blob.Size != int64(size) {
				continue
			}
			found = true
			if got := e.Blob.Batch; got != want {
				t.Errorf("a blob of %d bytes can come in a batch: %v", size, got)
			}
		}
		if !found {
			t.Errorf("the plan has no blob of %d bytes", size)
		}
	}
}
