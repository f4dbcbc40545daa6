//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"ferry/test/image"
	"ferry/test/instance"
)

// firstSync measures CPU time and memory of a new connected registry until it has synced
// 100,000 tags over loopback.
func firstSync(t *testing.T) []figure {
	const repositories, tags = 2000, 50
	ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
	defer cancel()
	root := instance.Start(t, instance.Options{})
	fillRepositories(ctx, t, root.AsAdmin(t), repositories, tags)

	child := instance.Start(t,
		instance.Connect(t, root.Admin(t, "root"), "ship1", root.Host, []string{"bench/*"}).Options(instance.Options{}))
	start, before := time.Now(), cpuOf(t, root.PID())
	// A request for the health of the sync costs the child next to nothing.
	for ; ; time.Sleep(time.Second) {
		err := checkHealth(ctx, child)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("not in sync: %v\n%s", err, child.Log())
		}
	}
	took := time.Since(start)
	resident := memoryOf(t, child.PID(), "VmHWM")
	childCPU := cpuOf(t, child.PID()) / (repositories * tags)
	parentCPU := (cpuOf(t, root.PID()) - before) / (repositories * tags)
	t.Logf("in sync after %.0f s; processor time of the parent: %s a tag", took.Seconds(), milliseconds(parentCPU))
	name := fmt.Sprintf("first sync of %d repositories of %d tags, images of 20 KiB that share layers", repositories,
		tags)
	return []figure{
		{
			name: name + ": processor time of the connected registry", ferry: milliseconds(childCPU) + " a tag",
			target: "0.5 ms a tag", reached: share(500*time.Microsecond, childCPU),
		},
		{
			name: name + ": its memory", ferry: fmt.Sprintf("%.1f MiB resident at most", mebibytes(resident)),
			target: "under 64 MiB", reached: share(64<<20, resident),
		},
	}
}

// checkHealth returns an error unless a connected registry is in sync.
func checkHealth(ctx context.Context, s *instance.Instance) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Host+"/health/sync", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// fillRepositories fills repositories bench/r0000 and following. All images share a layer; each
// has a config of its own.
func fillRepositories(ctx context.Context, t *testing.T, l instance.Login, repositories, tags int) {
	t.Helper()
	base := image.New(t, image.Options{Seed: 7, Layers: []int64{20 << 10}})
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for r := range repositories {
		group.Go(func() error {
			repo := fmt.Sprintf("bench/r%04d", r)
			layer := base.Manifest.Layers[0]
			if err := l.PushBlob(ctx, repo, base.Blob(layer.Digest), layer); err != nil {
				return err
			}
			for i := range tags {
				config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Labels":{"tag":"%d/%d"}}}`,
					r, i)
				m := v1.Manifest{
					Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
					Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config),
						Size: int64(len(config))},
					Layers: []v1.Descriptor{layer},
				}
				text, err := json.Marshal(m)
				if err != nil {
					return err
				}
				blob := fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", repo, m.Config.Digest)
				if err := send(ctx, l, http.MethodPost, blob, "application/octet-stream", config); err != nil {
					return err
				}
				manifest := fmt.Sprintf("/v2/%s/manifests/t%02d", repo, i)
				if err := send(ctx, l, http.MethodPut, manifest, m.MediaType, text); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// send makes a request with a body, and ignores the body of the response.
func send(ctx context.Context, l instance.Login, method, path, contentType string, body []byte) error {
	resp, err := l.Do(ctx, method, path, http.Header{"Content-Type": {contentType}}, bytes.NewReader(body),
		int64(len(body)))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
