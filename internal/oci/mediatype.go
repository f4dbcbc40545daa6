package oci

// Media types of manifests that the registry keeps. The OCI ones are of the
// image specification; Docker's are its schema 2, stored and served as they are.
const (
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// IsManifest reports whether mediaType names a manifest or an index.
func IsManifest(mediaType string) bool {
	switch mediaType {
	case MediaTypeImageManifest, MediaTypeDockerManifest:
		return true
	}
	return IsIndex(mediaType)
}

// IsIndex reports whether mediaType names an index, OCI's or Docker's.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeImageIndex || mediaType == MediaTypeDockerList
}
