package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

// maxMirrorNames bounds the registries in [MirrorNames].
const maxMirrorNames = 100

// MirrorNames say which repositories stand for the repositories of other registries, for clients
// that use this registry as a mirror. Such a client names the other registry in the parameter ns:
// containerd asks a mirror of docker.io for /v2/library/nginx/manifests/1.27?ns=docker.io.
//
// A registry with a prefix is answered from PREFIX/<path> only. Any other is answered from
// REGISTRY/<path>, such as docker.io/library/nginx, if that has any images, or else from <path>.
type MirrorNames struct {
	prefixes map[string]string // by canonical name of the registry
	// standIn is the registry whose repositories answer requests without ns for a repository that
	// does not exist here; "" is none.
	standIn string
	self    string // the host of this registry's external URL, in lower case; may be ""
}

// ParseMirrorNames parses the prefixes of registries, such as "docker.io=hub,quay.io=mirror/quay/",
// and the name of the registry that stands in for missing repositories. self is the host of this
// registry's external URL. Each may be "".
func ParseMirrorNames(prefixes, standIn, self string) (MirrorNames, error) {
	m := MirrorNames{prefixes: map[string]string{}, self: strings.ToLower(self)}
	for _, pair := range strings.FieldsFunc(prefixes, func(r rune) bool { return r == ',' || r == ' ' }) {
		text, prefix, ok := strings.Cut(pair, "=")
		prefix = strings.TrimSuffix(prefix, "/")
		registry, err := oci.ParseRegistryName(text)
		if err == nil {
			err = oci.CheckRepository(prefix)
		}
		if !ok || err != nil {
			return m, fmt.Errorf("mirror-names: %.100q: want REGISTRY=PREFIX, such as docker.io=hub", pair)
		}
		if _, ok := m.prefixes[registry]; ok {
			return m, fmt.Errorf("mirror-names: %s is named twice", registry)
		}
		m.prefixes[registry] = prefix
	}
	if len(m.prefixes) > maxMirrorNames {
		return m, fmt.Errorf("mirror-names: there are %d registries: at most %d are allowed", len(m.prefixes),
			maxMirrorNames)
	}
	if standIn == "" {
		return m, nil
	}
	name, err := oci.ParseRegistryName(standIn)
	if err != nil {
		return m, fmt.Errorf("mirror-default: %.100q is not the name of a registry, such as docker.io", standIn)
	}
	m.standIn = name
	return m, nil
}

// repositories returns the repositories that may answer a request for a repository of another
// registry. The first of them that exists does.
func (m MirrorNames) repositories(registry, name string) []string {
	full := oci.FullName(registry, name)
	if prefix, ok := m.prefixes[registry]; ok {
		return []string{prefix + "/" + full}
	}
	if first := registry + "/" + full; oci.CheckRepository(first) == nil {
		return []string{first, name}
	}
	return []string{name} // a registry with a port has no repository of its name
}

// StandIn returns the repository that answers pulls of a repository that does not exist here; ""
// is none.
func (m MirrorNames) StandIn(repository string) string {
	if m.standIn == "" {
		return ""
	}
	first := m.repositories(m.standIn, repository)[0]
	if first == repository || oci.CheckRepository(first) != nil {
		return ""
	}
	return first
}

// mirrored returns the registry that a request names in the parameter ns; "" is none, or this
// registry. The name is checked before it is used. A malformed name is refused: the answer would be
// the content of another registry than the client asked for.
func (m MirrorNames) mirrored(r *http.Request) (string, error) {
	if r.URL.RawQuery == "" {
		return "", nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	names := query["ns"]
	switch {
	case err != nil && strings.Contains(r.URL.RawQuery, "ns="), len(names) > 1:
		return "", oci.ErrNameInvalid.With("want one registry in the parameter ns")
	case len(names) == 0, names[0] == "":
		return "", nil
	}
	registry, err := oci.ParseRegistryName(names[0])
	if err != nil || registry == m.self || strings.EqualFold(registry, r.Host) {
		return "", err
	}
	return registry, nil
}

// setAlternatives sets the repositories that may answer a pull. A write is always to the repository
// in the path.
func (g *Registry) setAlternatives(q *request) (err error) {
	if !q.route.mirrored {
		return nil
	}
	if q.mirrorOf, err = g.mirrors.mirrored(q.Request); err != nil {
		return err
	}
	var names []string
	switch standIn := g.mirrors.StandIn(q.path); {
	case q.mirrorOf != "":
		names = g.mirrors.repositories(q.mirrorOf, q.path)
	case standIn != "":
		names = []string{q.path, standIn}
	default:
		return nil
	}
	need := make([]auth.Access, len(names))
	for i, name := range names {
		if err := oci.CheckRepository(name); err != nil {
			return err // the prefix makes it too long
		}
		need[i] = auth.Access{Repository: name, Action: q.need[0].Action}
	}
	q.need = need
	return nil
}

// authorize sets the grant of a request, and the repository that answers it.
func (g *Registry) authorize(q *request) (err error) {
	if !q.route.mirrored || len(q.need) == 1 && q.need[0].Repository == q.path {
		q.grant, err = g.authorizer.Authorize(q.Request, q.need...)
		return err
	}
	q.grant, q.repository, err = g.authorizer.AuthorizeFirst(q.Request, g.storage.HasManifests, q.need...)
	return err
}
