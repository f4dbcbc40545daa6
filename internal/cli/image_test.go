package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/layout"
	"ferry/internal/oci"
)

// pack makes an image layout with one image. The tag is the content of its layer.
func pack(dir, tag string) error {
	l, err := layout.Create(dir)
	if err != nil {
		return err
	}
	config, err := l.PutJSON("application/vnd.oci.image.config.v1+json",
		map[string]any{"architecture": "amd64", "os": "linux"})
	if err != nil {
		return err
	}
	layer, err := l.PutJSON("application/vnd.oci.image.layer.v1.tar", strings.Repeat(tag, 100_000))
	if err != nil {
		return err
	}
	d, err := l.PutJSON(oci.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": config,
		"layers": []oci.Descriptor{layer},
	})
	if err != nil {
		return err
	}
	return l.Tag(d, tag)
}

// push pushes an image with a config and one layer. Its name is the content of the layer.
func push(url, user, password, image string) error {
	repository, tag, _ := strings.Cut(image, ":")
	blob := func(mediaType, content string) (oci.Descriptor, error) {
		d := oci.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
		_, _, err := request("POST", url+"/v2/"+repository+"/blobs/uploads/?digest="+d.Digest.String(), user, password,
			"application/octet-stream", strings.NewReader(content), d.Size)
		return d, err
	}
	config, err := blob("application/vnd.oci.image.config.v1+json",
		fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Labels":{"image":%q}}}`, image))
	if err != nil {
		return err
	}
	layer, err := blob("application/vnd.oci.image.layer.v1.tar", strings.Repeat(image+"\n", 1000))
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest,
		"config": config, "layers": []oci.Descriptor{layer}})
	if err != nil {
		return err
	}
	_, _, err = request("PUT", url+"/v2/"+repository+"/manifests/"+tag, user, password, oci.MediaTypeImageManifest,
		bytes.NewReader(manifest), int64(len(manifest)))
	return err
}

// pull pulls an image and all its blobs, and checks every digest.
func pull(url, user, password, image string) error {
	repository, tag, _ := strings.Cut(image, ":")
	payload, header, err := request("GET", url+"/v2/"+repository+"/manifests/"+tag, user, password, "", nil, 0)
	if err != nil {
		return err
	}
	if got := header.Get("Docker-Content-Digest"); got != digest.FromBytes(payload).String() {
		return fmt.Errorf("manifest of %s is not of the digest %s", image, got)
	}
	m, err := oci.ParseManifest(header.Get("Content-Type"), payload)
	if err != nil {
		return err
	}
	for _, d := range m.Blobs() {
		content, _, err := request("GET", url+"/v2/"+repository+"/blobs/"+d.Digest.String(), user, password, "", nil, 0)
		if err != nil {
			return err
		}
		if digest.FromBytes(content) != d.Digest {
			return fmt.Errorf("blob %s of %s has other content", d.Digest, image)
		}
	}
	return nil
}
