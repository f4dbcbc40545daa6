package fleet

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"ferry/internal/wire"
)

// Limits on the labels of a connected registry.
const (
	maxLabels    = 32
	maxLabelName = 63  // of a key's name, and of a value
	maxLabelKey  = 253 // of a key's prefix
)

var (
	// labelText matches the name of a label's key, and its value, as in Kubernetes.
	labelText = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
	// labelPrefix matches the prefix of a key: a DNS name.
	labelPrefix = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// filterKeys are the keys of a filter that are no labels. No label has one of these keys.
var filterKeys = []string{
	"name", "parent", "state", "reason", "behind", "heard", "items", "bytes", "version", "mode", "image",
}

// checkLabels returns an error unless labels are valid: their number, keys and values.
func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels are too many: at most %d are allowed", len(labels), maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if err := checkLabel(key, labels[key]); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(key, value string) error {
	prefix, name, ok := strings.Cut(key, "/")
	if !ok {
		prefix, name = "", key
	}
	switch {
	case len(name) > maxLabelName || !labelText.MatchString(name),
		ok && (len(prefix) > maxLabelKey || !labelPrefix.MatchString(prefix)):
		return fmt.Errorf("'%.100s' is not a key of a label: want up to %d letters, digits, '-', '_' or '.', "+
			"after a DNS name and '/' if needed", key, maxLabelName)
	case slices.Contains(filterKeys, strings.ToLower(key)):
		return fmt.Errorf("'%s' is not a key of a label, because it has another meaning in filters", key)
	case len(value) > maxLabelName || !labelText.MatchString(value):
		return fmt.Errorf("'%.100s' is not a value of the label %s: want up to %d letters, digits, '-', '_' or '.'",
			value, key, maxLabelName)
	}
	return nil
}

// mergedLabels returns labels with changes: an empty value removes a label.
func mergedLabels(labels, changes map[string]string) map[string]string {
	if len(changes) == 0 {
		return labels
	}
	all := maps.Clone(labels)
	if all == nil {
		all = map[string]string{}
	}
	for key, value := range changes {
		if all[key] = value; value == "" {
			delete(all, key)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// labelsOf returns the labels of a connected registry, never nil.
func labelsOf(v wire.Spec) map[string]string {
	if v.Labels == nil {
		return map[string]string{}
	}
	return v.Labels
}
