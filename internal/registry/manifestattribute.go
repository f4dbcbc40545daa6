package registry

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/jsonlimit"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// A manifestView is a manifest with its attributes, in the reference's form.
type manifestView struct {
	Digest               digest.Digest `json:"digest"`
	ImageSize            int64         `json:"imageSize,omitempty"` // of config and layers, in bytes
	CreatedTime          time.Time     `json:"createdTime"`
	LastUpdateTime       time.Time     `json:"lastUpdateTime"`
	Architecture         string        `json:"architecture,omitempty"` // that the config of an image names
	OS                   string        `json:"os,omitempty"`           // the same
	MediaType            string        `json:"mediaType"`
	ConfigMediaType      string        `json:"configMediaType,omitempty"`
	ArtifactType         string        `json:"artifactType,omitempty"`
	Subject              digest.Digest `json:"subject,omitempty"` // that the manifest refers to, as a signature does
	Tags                 []string      `json:"tags"`
	ChangeableAttributes attributes    `json:"changeableAttributes"`
}

func (g *Registry) viewManifest(q *request, m storage.Manifest) (manifestView, error) {
	tags, err := g.storage.ManifestTags(q.Context(), q.repository, m.Digest)
	if tags == nil {
		tags = []string{}
	}
	v := manifestView{
		Digest: m.Digest, CreatedTime: m.PushedAt, LastUpdateTime: m.PushedAt, MediaType: m.MediaType,
		ArtifactType: m.ArtifactType, Subject: m.Subject, Tags: tags, ChangeableAttributes: attributesOf(m.Locks),
	}
	parsed, parseErr := g.storage.ParseManifest(q.Context(), &m)
	if err != nil || parseErr != nil {
		return v, err // the payload is damaged, or an earlier version, with other checks, stored it
	}
	for _, b := range parsed.Blobs() {
		v.ImageSize += b.Size
	}
	if parsed.Config != nil {
		v.ConfigMediaType = parsed.Config.MediaType
		v.Architecture, v.OS = g.platform(q, *parsed.Config)
	}
	return v, nil
}

// maxConfig is the size in bytes up to which a config is read for the platform of its image.
const maxConfig = 256 << 10

// A config is the part of an image's config that is shown.
type config struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// configs decodes configs. It is only read.
var configs = jsonlimit.New[config](maxConfig)

// platform returns the platform that an image's config names; "" if it names none.
func (g *Registry) platform(q *request, of oci.Descriptor) (architecture, os string) {
	if of.Size > maxConfig {
		return "", ""
	}
	content, _, err := g.storage.Unlocked().OpenBlob(q.Context(), q.repository, of.Digest)
	if err != nil {
		return "", ""
	}
	defer content.Close()
	text, err := io.ReadAll(io.LimitReader(content, maxConfig))
	var c config
	if err == nil {
		_, err = configs.Unmarshal(text, &c)
	}
	if err != nil {
		return "", "" // the config of another kind of artifact, such as a chart
	}
	return c.Architecture, c.OS
}

// manifestAttributesList lists manifests, ordered by digest unless the parameter orderby says
// by time.
func (g *Registry) manifestAttributesList(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPageSize)
	if err != nil {
		return err
	}
	var o storage.ManifestOrder
	if o.ByTime, o.Newest, err = q.order(); err != nil {
		return err
	}
	all, err := g.storage.Manifests(q.Context(), q.repository, o, digest.Digest(p.last), p.n+1)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return errAttributes.With("the manifest in last is not in this list any more: start again without last")
	}
	if err != nil {
		return err
	}
	if len(all) > p.n && p.n > 0 {
		p.setNextLink(w, q, string(all[p.n-1].Digest))
	}
	all = all[:min(len(all), p.n)]
	views := make([]manifestView, len(all))
	for i, m := range all {
		described, err := g.storage.DescribeManifest(q.Context(), q.repository, m.Digest) // with its payload
		if errors.Is(err, oci.ErrManifestUnknown) {
			described, err = m, nil // it was deleted meanwhile, or it is damaged
		}
		if err == nil {
			views[i], err = g.viewManifest(q, described)
		}
		if err != nil {
			return err
		}
	}
	return writeJSON(w, map[string]any{
		"registry": q.Host, "imageName": q.repository, "manifests": views,
	})
}

func (g *Registry) manifestAttributes(w http.ResponseWriter, q *request) error {
	m, err := g.storage.DescribeManifest(q.Context(), q.repository, digest.Digest(q.reference))
	if err != nil {
		return err
	}
	v, err := g.viewManifest(q, m)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "manifest": v})
}
