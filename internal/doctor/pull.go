package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ferry/internal/oci"
)

// pullBytes is how much of a blob is fetched. It is enough to measure a slow link, and little
// enough for a metered one.
const pullBytes = 64 << 10

// accept are the media types of manifests.
const accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, " +
	"application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"

// A refusal is an answer other than the wanted one.
type refusal struct {
	status int
	path   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s is answered with %d %s", r.path, r.status, http.StatusText(r.status))
}

// checkPull pulls a manifest and the beginning of a layer.
func (e *Endpoint) checkPull(ctx context.Context) Finding {
	repository, reference, err := e.anImage(ctx)
	if err != nil {
		return e.noPull(err)
	}
	if repository == "" {
		return warn("there is no image that this login may list").
			hint("push one; or give the login the right metadata/read, or an image with --image")
	}
	start := time.Now()
	manifest, err := e.manifest(ctx, repository, reference)
	if err != nil {
		return e.noPull(err)
	}
	fetched := time.Since(start)
	if manifest.layer == "" {
		return ok("a manifest of %s in %s; it has no layer", repository, rounded(fetched))
	}
	start = time.Now()
	n, err := e.layer(ctx, repository, manifest.layer)
	if err != nil {
		return e.noPull(err)
	}
	took := time.Since(start)
	return ok("a manifest of %s in %s, and %d bytes of a layer in %s", repository, rounded(fetched), n, rounded(took))
}

// noPull explains why an image cannot be pulled.
func (e *Endpoint) noPull(err error) Finding {
	r, isRefusal := err.(*refusal)
	switch {
	case !isRefusal:
		return e.noAnswer(err)
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		return fail("this login may not pull: %s", r).hint("add content/read to its scope map: ferry scope-map update")
	case r.status == http.StatusNotFound:
		return fail("the image is not there: %s", r).
			hint("see ferry repository show-tags; at a site, ferry sync status")
	}
	return fail("%s", r).hint("look at the registry's log")
}

// anImage returns the image to pull: the wanted one, or the first tag of the first repository
// that has one; "" if there is none.
func (e *Endpoint) anImage(ctx context.Context) (repository, reference string, err error) {
	if e.Image != "" {
		repository, tag, _ := strings.Cut(e.Image, ":")
		return repository, cmp.Or(tag, "latest"), nil
	}
	var catalog struct{ Repositories []string }
	if err := e.list(ctx, "/v2/_catalog?n=20", &catalog); err != nil {
		return "", "", err
	}
	for _, name := range catalog.Repositories {
		if oci.CheckRepository(name) != nil {
			continue
		}
		var tags struct{ Tags []string }
		if err := e.list(ctx, "/v2/"+name+"/tags/list?n=1", &tags); err != nil {
			return "", "", err
		}
		if len(tags.Tags) > 0 && oci.CheckTag(tags.Tags[0]) == nil {
			return name, tags.Tags[0], nil
		}
	}
	return "", "", nil
}

func (e *Endpoint) list(ctx context.Context, path string, into any) error {
	a, err := e.get(ctx, e.client(), path, e.Login, nil)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		path, _, _ = strings.Cut(path, "?")
		return &refusal{a.status, path}
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// A manifest is the part of a manifest that the check uses.
type manifest struct{ layer string } // the digest of its first layer; "" if it has none

// manifest gets a manifest. Of an index it gets the first child.
func (e *Endpoint) manifest(ctx context.Context, repository, reference string) (manifest, error) {
	for range 2 {
		path := "/v2/" + repository + "/manifests/" + reference
		a, err := e.get(ctx, e.client(), path, e.Login, http.Header{"Accept": {accept}})
		if err != nil {
			return manifest{}, err
		}
		if a.status != http.StatusOK {
			return manifest{}, &refusal{a.status, path}
		}
		var m struct {
			Manifests []struct{ Digest string }
			Layers    []struct{ Digest string }
		}
		if err := json.Unmarshal(a.body, &m); err != nil {
			return manifest{}, fmt.Errorf("read %s: %w", path, err)
		}
		switch {
		case len(m.Layers) > 0:
			d, err := oci.ParseDigest(m.Layers[0].Digest)
			return manifest{string(d)}, err
		case len(m.Manifests) == 0:
			return manifest{}, nil
		}
		d, err := oci.ParseDigest(m.Manifests[0].Digest)
		if err != nil {
			return manifest{}, err
		}
		reference = string(d)
	}
	return manifest{}, nil
}

// layer reads the beginning of a layer, and returns how many bytes came. It follows a redirect to
// the store that has the content, without the login.
func (e *Endpoint) layer(ctx context.Context, repository, digest string) (int64, error) {
	path := "/v2/" + repository + "/blobs/" + digest
	u := e.URL.JoinPath(path)
	login := e.Login
	c := e.client()
	defer c.CloseIdleConnections()
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return 0, err
		}
		r.Header.Set("Range", fmt.Sprintf("bytes=0-%d", pullBytes-1))
		if login.Name != "" {
			r.SetBasicAuth(login.Name, login.Password)
		}
		resp, err := c.Do(r)
		if err != nil {
			return 0, withoutURL(err)
		}
		defer resp.Body.Close()
		switch to, locationErr := resp.Location(); {
		case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent:
			return io.Copy(io.Discard, io.LimitReader(resp.Body, pullBytes))
		case locationErr == nil && resp.StatusCode >= 300 && (to.Scheme == "https" || u.Scheme == "http"):
			u, login = to, Login{}
		default:
			return 0, &refusal{resp.StatusCode, path}
		}
	}
	return 0, fmt.Errorf("the blob is redirected twice")
}
