package noderuntime

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// object is a part of a YAML document, whose keys keep their order.
type object []member

type member struct {
	key   string
	value any
}

// MarshalYAML implements [yaml.Marshaler].
func (o object) MarshalYAML() (any, error) {
	node := &yaml.Node{Kind: yaml.MappingNode}
	for _, m := range o {
		var value yaml.Node
		if err := value.Encode(m.value); err != nil {
			return nil, err
		}
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: m.key}, &value)
	}
	return node, nil
}

// documents writes objects as the documents of one YAML file.
func documents(all ...object) string {
	var texts []string
	for _, o := range all {
		text, err := yaml.Marshal(o)
		if err != nil {
			panic("noderuntime: write yaml: " + err.Error()) // the objects have strings, lists and maps only
		}
		texts = append(texts, string(text))
	}
	return strings.Join(texts, "---\n")
}

// openshift returns the objects for a cluster of OpenShift, whose operator writes the files of
// its nodes. Creating an ImageDigestMirrorSet restarts nothing; changing or deleting it, and
// every change of an ImageTagMirrorSet, drains the nodes.
func openshift(s *Settings) string {
	var all []object
	if len(s.CA) > 0 {
		authorities := object{}
		for _, host := range s.own() {
			key := strings.ReplaceAll(host, ":", "..")
			authorities = append(authorities, member{key, string(s.CA)})
		}
		all = append(all,
			object{{"apiVersion", "v1"}, {"kind", "ConfigMap"},
				{"metadata", object{{"name", "ferry-authority"}, {"namespace", "openshift-config"}}},
				{"data", authorities}})
	}
	image := object{}
	if len(s.CA) > 0 {
		image = append(image, member{"additionalTrustedCA", object{{"name", "ferry-authority"}}})
	}
	if s.plainHTTP() {
		image = append(image, member{"registrySources", object{{"insecureRegistries", s.own()}}})
	}
	if len(image) > 0 {
		all = append(all, object{{"apiVersion", "config.openshift.io/v1"}, {"kind", "Image"},
			{"metadata", object{{"name", "cluster"}}}, {"spec", image}})
	}
	var sources []object
	for _, name := range s.Mirrors {
		location := s.host()
		if prefix := strings.Trim(s.Prefixes[name], "/"); prefix != "" {
			location += "/" + prefix
		}
		source := object{{"source", name}, {"mirrors", []string{location}}}
		if s.NoUpstream {
			source = append(source, member{"mirrorSourcePolicy", "NeverContactSource"})
		}
		sources = append(sources, source)
	}
	if len(sources) > 0 {
		all = append(all,
			object{{"apiVersion", "config.openshift.io/v1"}, {"kind", "ImageDigestMirrorSet"},
				{"metadata", object{{"name", "ferry"}}}, {"spec", object{{"imageDigestMirrors", sources}}}},
			object{{"apiVersion", "config.openshift.io/v1"}, {"kind", "ImageTagMirrorSet"},
				{"metadata", object{{"name", "ferry"}}}, {"spec", object{{"imageTagMirrors", sources}}}})
	}
	return documents(all...)
}

// talos returns the documents to add to a machine's configuration, of Talos 1.12 and newer.
func talos(s *Settings) string {
	var all []object
	for i, name := range s.registries() {
		mirror := object{{"apiVersion", "v1alpha1"}, {"kind", "RegistryMirrorConfig"}, {"name", name},
			{"endpoints", []object{{{"url", s.Endpoint}}}}}
		if i < len(s.own()) && name != s.host() || i >= len(s.own()) && s.NoUpstream {
			mirror = append(mirror, member{"skipFallback", true})
		}
		if name != s.host() || s.plainHTTP() {
			all = append(all, mirror)
		}
	}
	if len(s.CA) > 0 {
		all = append(all, object{{"apiVersion", "v1alpha1"}, {"kind", "RegistryTLSConfig"}, {"name", s.host()},
			{"ca", string(s.CA)}})
	}
	if s.Username != "" {
		all = append(all, object{{"apiVersion", "v1alpha1"}, {"kind", "RegistryAuthConfig"}, {"name", s.host()},
			{"username", s.Username}, {"password", s.Password}})
	}
	text := documents(all...)
	if s.Username != "" {
		text = fmt.Sprintf("# The password is effective after a restart of containerd; the rest at once.\n%s", text)
	}
	return text
}
