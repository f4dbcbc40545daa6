package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds a configuration file, and a file with a connection string, in bytes.
const maxFile = 1 << 20

// readLayer reads the YAML file at path. It must be a mapping from the names of settings to
// plain values. Unknown and repeated names are errors.
func readLayer(path string) (layer, error) {
	if path == "" {
		return nil, nil
	}
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parseLayer(path, data)
}

func parseLayer(path string, data []byte) (layer, error) {
	if blank(data) {
		return nil, nil // the parser calls it an error
	}
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		return nil, fmt.Errorf("read configuration %s: %s", path, strings.Join(strings.Fields(err.Error()), " "))
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf(`%s:%d: want a mapping of settings, such as "data-dir: /var/lib/ferry"`, path, root.Line)
	}
	var names []string
	for _, s := range Settings() {
		names = append(names, s.Name)
	}
	l, lines := layer{}, map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch {
		case !slices.Contains(names, key.Value):
			return nil, fmt.Errorf("%s:%d: unknown setting %.80q; the settings are %s",
				path, key.Line, key.Value, strings.Join(names, ", "))
		case lines[key.Value] != 0:
			return nil, fmt.Errorf("%s:%d: %s is set already, on line %d", path, key.Line, key.Value, lines[key.Value])
		case value.Kind != yaml.ScalarNode:
			return nil, fmt.Errorf("%s:%d: %s takes one plain value", path, value.Line, key.Value)
		}
		lines[key.Value] = key.Line
		if value.Tag == "!!null" {
			continue
		}
		l[key.Value] = given{value.Value, fmt.Sprintf("%s:%d: %s", path, value.Line, key.Value)}
	}
	return l, nil
}

// blank reports whether data has only white space and comments.
func blank(data []byte) bool {
	for line := range strings.Lines(string(data)) {
		if t := strings.TrimSpace(line); t != "" && t[0] != '#' {
			return false
		}
	}
	return true
}

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("the file is larger than 1 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}
