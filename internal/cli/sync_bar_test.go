package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"ferry/internal/api"
)

func TestARunningSyncIsDrawnUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := func(state string, done, left int64) progress {
			return syncProgress(api.SyncStatus{
				State: state, BytesDone: done << 20, BytesTotal: 4 << 20, BytesPerSecond: 2048, EtaSeconds: &left, ItemsPending: 1,
			})
		}
		asked := 0
		ask := func(context.Context) (moment, error) {
			if asked++; asked == 4 {
				return moment{all: status("Online", 4, 0)}, nil
			}
			item := api.SyncItem{
				Repository: "factory/applications/web", Tag: new(fmt.Sprint("v", asked)),
				BytesDone: new(int64(512)), BytesTotal: new(int64(1024)), BytesPerSecond: new(int64(100)), EtaSeconds: new(int64(6)),
			}
			return moment{status("Syncing", int64(asked), 90), []api.SyncItem{item}}, nil
		}
		var out bytes.Buffer
		if err := watchSync(t.Context(), &out, status("Syncing", 0, 90), ask); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"1.0 MiB of 4.0 MiB, 2.0 KiB/s, 1m30s left", "3.0 MiB of 4.0 MiB", "=>", " …pplications/web:v1 [", " …pplications/web:v3 [", "512 B of 1.0 KiB, 100 B/s, 6s left"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q was not drawn: %q", want, &out)
			}
		}
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestASyncThatDoesNotRunIsNotDrawn(t *testing.T) {
	var out bytes.Buffer
	if err := watchSync(t.Context(), &out, syncProgress(api.SyncStatus{State: "Online"}), nil); err != nil || out.Len() > 0 {
		t.Errorf("%q, %v", &out, err)
	}
}
