package oci

import "strings"

// DockerHub is the name of Docker Hub in the names of images.
const DockerHub = "docker.io"

// maxRegistryName is the maximum length of a registry's name, in bytes: a host name, a colon and
// a port.
const maxRegistryName = 253 + 6

// ParseRegistryName returns the canonical form of a registry's name, host[:port]: in lower case,
// and [DockerHub] for each host name of Docker Hub. The error is [ErrNameInvalid].
func ParseRegistryName(text string) (string, error) {
	if len(text) > maxRegistryName {
		return "", ErrNameInvalid.With("the name of a registry is longer than %d bytes", maxRegistryName)
	}
	if err := checkHost(text); err != nil {
		return "", err
	}
	switch name := strings.ToLower(text); name {
	case "index.docker.io", "registry-1.docker.io":
		return DockerHub, nil
	default:
		return name, nil
	}
}

// FullName returns the name of a repository in the registry as every client sends it: Docker Hub
// has its official images below library/.
func FullName(registry, repository string) string {
	if registry == DockerHub && !strings.Contains(repository, "/") {
		return "library/" + repository
	}
	return repository
}
