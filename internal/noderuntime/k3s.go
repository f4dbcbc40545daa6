package noderuntime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// rancherSettings are the settings of K3s and RKE2 that matter here.
type rancherSettings struct {
	DataDir    string `yaml:"data-dir"`
	Registries string `yaml:"private-registry"`
	Embedded   bool   `yaml:"embedded-registry"`
}

// registriesFile is the part of registries.yaml that names registries.
type registriesFile struct {
	Mirrors map[string]struct {
		Rewrite map[string]any `yaml:"rewrite"`
	} `yaml:"mirrors"`
	Configs map[string]any `yaml:"configs"`
}

func (n *Node) inspectRancher(ctx context.Context, k Kind, registries []string) Runtime {
	etc := "/etc/rancher/" + string(k)
	settings := rancherSettings{DataDir: "/var/lib/rancher/" + string(k), Registries: etc + "/registries.yaml"}
	var errs []error
	for _, file := range append([]string{etc + "/config.yaml"}, n.glob(etc+"/config.yaml.d/*.yaml")...) {
		text, err := n.readIfExists(file)
		if err == nil {
			err = yaml.Unmarshal(text, &settings)
		}
		errs = append(errs, err)
	}
	r := newRuntime(k, n.versionOf(ctx, string(k)), notNamed)
	r.config = n.configFile(settings.Registries)
	r.roots = []string{filepath.Join(settings.DataDir, "agent/etc/containerd/certs.d")}
	r.embedded = settings.Embedded
	text, err := n.readIfExists(r.config)
	errs = append(errs, err)
	names, err := namedRegistries(text)
	errs = append(errs, err)
	f := notNamed
	if r.embedded {
		f = embedded
	} else if slices.ContainsFunc(registries, func(host string) bool { return names[host].named }) {
		f = named
	}
	r.Row = rowOf(k, r.version, f)
	r.Files = []string{r.roots[0] + "/HOST/hosts.toml"}
	if f != notNamed {
		r.Files = append([]string{r.config}, r.Files...)
	}
	for _, err := range errs {
		if err != nil {
			r.problem("%v", err)
		}
	}
	return r
}

// A namedRegistry is how a registries.yaml names a registry.
type namedRegistry struct{ named, rewrites bool }

// namedRegistries returns the registries that a registries.yaml names. K3s makes the
// directories of these anew at each start.
func namedRegistries(text []byte) (map[string]namedRegistry, error) {
	var file registriesFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	names := map[string]namedRegistry{}
	for name := range file.Configs {
		names[name] = namedRegistry{named: true}
	}
	for name, mirror := range file.Mirrors {
		names[name] = namedRegistry{named: true, rewrites: len(mirror.Rewrite) > 0}
	}
	return names, nil
}

// rancher plans the files of K3s and RKE2. They read registries.yaml at their start only, and
// make the directories of the registries that it names anew then. So a registry that it does
// not name gets a directory, which is left alone; for one that it names, both are changed:
// the directory is effective now, and registries.yaml keeps it so.
func (p *plan) rancher(s *Settings) error {
	r := &p.runtime
	before, err := p.pristine(r.config)
	if err != nil {
		return err
	}
	old, err := p.text(r.config, before)
	if err != nil {
		return err
	}
	names, err := namedRegistries(old)
	if err != nil {
		return fmt.Errorf("read %s: %w", r.config, err)
	}
	if !r.embedded && !slices.ContainsFunc(s.registries(), func(name string) bool { return names[name].named }) {
		return p.hostsFiles(r.roots[0], s)
	}
	if s.NoUpstream && len(s.Mirrors) > 0 {
		p.note("%s asks the upstream again after its next start, unless it is started with "+
			"--disable-default-registry-endpoint", r.Runtime)
	}
	for _, name := range s.Mirrors {
		if names[name].rewrites {
			p.note("%s will also rewrite names of %s for this endpoint, after its next start", r.Runtime, name)
		}
	}
	ca := ""
	if name := s.caName(); name != "" {
		ca = filepath.Join(filepath.Dir(r.config), name)
		if err := p.create(ca, s.CA, fileOptions{authority: true}); err != nil {
			return err
		}
	}
	o := fileOptions{secret: s.Username != "", hosts: []string{s.host()}}
	err = p.edit(r.config, o, func(old []byte) ([]byte, error) {
		return mergeRegistries(old, s, ca)
	})
	if err != nil {
		return err
	}
	return p.hostsFiles(r.roots[0], s)
}

// mergeRegistries adds the endpoint to a registries.yaml, before the other endpoints.
func mergeRegistries(old []byte, s *Settings, ca string) ([]byte, error) {
	text := old
	var err error
	for _, name := range slices.Backward(s.registries()) {
		if text, err = insertYAML(text, []string{"mirrors", name, "endpoint"}, s.Endpoint); err != nil {
			return nil, err
		}
	}
	host := []string{"configs", s.host()}
	if s.Username != "" {
		for _, member := range [][2]string{{"password", s.Password}, {"username", s.Username}} {
			if text, err = insertYAML(text, append(host[:2:2], "auth", member[0]), member[1]); err != nil {
				return nil, err
			}
		}
	}
	if ca != "" {
		text, err = insertYAML(text, append(host[:2:2], "tls", "ca_file"), ca)
	}
	return text, err
}

// insertYAML adds a value to a document of maps at a path of keys: first in the list if the
// last key is "endpoint", else as the value. It changes only the lines that it must. If the
// document is written in a way that this does not work with, it is written anew, with its
// comments. A value that is there already is replaced.
func insertYAML(text []byte, path []string, value string) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	var old any
	if err := yaml.Unmarshal(text, &old); err != nil {
		return nil, err
	}
	want, err := withValue(old, path, value)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(old, want) {
		return text, nil
	}
	var root *yaml.Node
	if len(document.Content) > 0 {
		root = document.Content[0]
	}
	if edited, ok := insertLines(text, root, path, value); ok {
		var got any
		if yaml.Unmarshal(edited, &got) == nil && reflect.DeepEqual(got, want) {
			return edited, nil
		}
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return yaml.Marshal(want)
	}
	for range 2 {
		setNode(root, path, value)
		edited, err := yaml.Marshal(&document)
		if err != nil {
			return nil, err
		}
		var got any
		if err := yaml.Unmarshal(edited, &got); err == nil && reflect.DeepEqual(got, want) {
			return edited, nil
		}
		// Another part of the document is an alias of the changed one.
		document = yaml.Node{}
		if err := yaml.Unmarshal(text, &document); err != nil {
			return nil, err
		}
		root = document.Content[0]
		expand(root)
	}
	return nil, fmt.Errorf("it is written in a way that Ferry does not change: add %q to %s", value,
		strings.Join(path, "."))
}

// expand replaces each alias below a node by a copy of what it stands for. The document has been
// decoded before, which bounds the size of the result and refuses an alias of itself.
func expand(node *yaml.Node) {
	for i, n := range node.Content {
		if n.Kind == yaml.AliasNode {
			node.Content[i] = copyOf(n.Alias)
		}
		expand(node.Content[i])
	}
	node.Anchor = ""
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Tag != "!!merge" {
			continue
		}
		merged := node.Content[i+1].Content
		if node.Content[i+1].Kind == yaml.SequenceNode {
			merged = nil
			for _, m := range node.Content[i+1].Content {
				merged = append(merged, m.Content...)
			}
		}
		node.Content = slices.Delete(node.Content, i, i+2)
		for j := 0; j+1 < len(merged); j += 2 {
			if !hasKey(node, merged[j].Value) {
				node.Content = append(node.Content, merged[j], merged[j+1])
			}
		}
		i -= 2
	}
}

func hasKey(node *yaml.Node, key string) bool {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return true
		}
	}
	return false
}

// copyOf returns a copy of a node that shares nothing with it, and has no anchor.
func copyOf(node *yaml.Node) *yaml.Node {
	c := *node
	c.Anchor, c.Content = "", nil
	for _, n := range node.Content {
		c.Content = append(c.Content, copyOf(n))
	}
	return &c
}

// withValue returns a copy of a decoded document with the value.
func withValue(old any, path []string, value string) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	m, ok := old.(map[string]any)
	if old != nil && !ok {
		return nil, fmt.Errorf("%s is in something that is not a map", path[0])
	}
	m = maps.Clone(m)
	if m == nil {
		m = map[string]any{}
	}
	if path[0] == "endpoint" {
		list, ok := m["endpoint"].([]any)
		if m["endpoint"] != nil && !ok {
			return nil, errors.New("endpoint is not a list")
		}
		list = slices.DeleteFunc(slices.Clone(list), func(v any) bool { return v == value })
		m["endpoint"] = append([]any{value}, list...)
		return m, nil
	}
	inner, err := withValue(m[path[0]], path[1:], value)
	m[path[0]] = inner
	return m, err
}

// insertLines inserts the lines of a value into a document that is written as most are.
func insertLines(text []byte, root *yaml.Node, path []string, value string) ([]byte, bool) {
	all := lines(text)
	if len(all) > 0 && !strings.HasSuffix(all[len(all)-1], "\n") {
		all[len(all)-1] += "\n"
	}
	node, line, indent := root, len(all), 0
	for node != nil && node.Kind == yaml.MappingNode && len(path) > 0 {
		if node.Style&yaml.FlowStyle != 0 {
			return nil, false
		}
		i := 0
		for i < len(node.Content) && node.Content[i].Value != path[0] {
			i += 2
		}
		if i == len(node.Content) {
			if len(node.Content) > 0 {
				indent = node.Content[0].Column - 1
			}
			break
		}
		key := node.Content[i]
		node, path, line, indent = node.Content[i+1], path[1:], key.Line, key.Column+1
	}
	if len(path) == 0 && node != nil && node.Kind == yaml.SequenceNode && len(node.Content) > 0 {
		quoted := strconv.Quote(value)
		if node.Style&yaml.FlowStyle != 0 {
			at := all[node.Line-1]
			if node.Column > len(at) {
				return nil, false
			}
			all[node.Line-1] = at[:node.Column] + quoted + ", " + at[node.Column:]
			return []byte(strings.Join(all, "")), true
		}
		item := strings.Repeat(" ", node.Column-1) + "- " + quoted + "\n"
		return []byte(strings.Join(slices.Insert(all, line, item), "")), true
	}
	if node != nil && node.Kind != yaml.MappingNode && (node.Kind != yaml.ScalarNode || node.Tag != "!!null") {
		return nil, false
	}
	var block []string
	for _, key := range path {
		block = append(block, strings.Repeat(" ", indent)+quotedKey(key)+":\n")
		indent += 2
	}
	switch last := len(block) - 1; {
	case last >= 0 && path[last] != "endpoint":
		block[last] = strings.TrimSuffix(block[last], "\n") + " " + strconv.Quote(value) + "\n"
	default:
		block = append(block, strings.Repeat(" ", indent)+"- "+strconv.Quote(value)+"\n")
	}
	return []byte(strings.Join(slices.Insert(all, line, block...), "")), true
}

// quotedKey returns a key of a map as YAML.
func quotedKey(key string) string {
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_") == "" && key[0] != '-' {
		return key
	}
	return strconv.Quote(key)
}

// setNode sets the value in the nodes of a document.
func setNode(node *yaml.Node, path []string, value string) {
	scalar := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	for i := range path {
		var next *yaml.Node
		for j := 0; j+1 < len(node.Content); j += 2 {
			if node.Content[j].Value == path[i] {
				next = node.Content[j+1]
			}
		}
		if next == nil {
			next = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: path[i]}, next)
		}
		if next.Kind == yaml.AliasNode {
			*next = *copyOf(next.Alias)
		}
		switch {
		case path[i] == "endpoint":
			if next.Kind != yaml.SequenceNode {
				*next = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
			}
			rest := slices.DeleteFunc(next.Content, func(n *yaml.Node) bool { return n.Value == value })
			next.Content = append([]*yaml.Node{scalar}, rest...)
		case i == len(path)-1:
			*next = *scalar
		case next.Kind != yaml.MappingNode:
			*next = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		node = next
	}
}
