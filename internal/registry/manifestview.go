package registry

import (
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// A manifestView is a manifest with its attributes, as the reference shows it.
type manifestView struct {
	Digest               digest.Digest `json:"digest"`
	ImageSize            int64         `json:"imageSize,omitempty"` // of config and layers, in bytes; not in lists
	CreatedTime          time.Time     `json:"createdTime"`
	LastUpdateTime       time.Time     `json:"lastUpdateTime"`
	MediaType            string        `json:"mediaType"`
	ArtifactType         string        `json:"artifactType,omitempty"`
	Tags                 []string      `json:"tags"`
	ChangeableAttributes attributes    `json:"changeableAttributes"`
}

func (g *Registry) viewManifest(q *request, m storage.Manifest) (manifestView, error) {
	tags, err := g.storage.ManifestTags(q.Context(), q.repository, m.Digest)
	if tags == nil {
		tags = []string{}
	}
	return manifestView{
		Digest: m.Digest, ImageSize: imageSize(m), CreatedTime: m.PushedAt, LastUpdateTime: m.PushedAt,
		MediaType: m.MediaType, ArtifactType: m.ArtifactType, Tags: tags, ChangeableAttributes: attributesOf(m.Locks),
	}, err
}

// imageSize is what the image's blobs have in all, 0 where it is not known.
func imageSize(m storage.Manifest) (size int64) {
	if m.Payload == nil {
		return 0
	}
	parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
	if err != nil {
		return 0 // it was checked on its way in, by the rules of then
	}
	for _, b := range parsed.Blobs() {
		size += b.Size
	}
	return size
}

func (g *Registry) manifestAttributesList(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPage)
	if err != nil {
		return err
	}
	all, err := g.storage.Manifests(q.Context(), q.repository, p.last, p.n+1)
	if err != nil {
		return err
	}
	if len(all) > p.n {
		all = all[:p.n]
		if p.n > 0 {
			p.next(w, q, string(all[p.n-1].Digest))
		}
	}
	views := make([]manifestView, len(all))
	for i, m := range all {
		if views[i], err = g.viewManifest(q, m); err != nil {
			return err
		}
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "manifests": views})
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
