package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/terminal"
)

// maxDetail is the largest detail of an audit entry about an update, in bytes.
const maxDetail = 1000

// changesOf says how the settings of an object differ between two states, such as "mode: ReadOnly -> ReadWrite;
// platforms: +linux/arm64"; "" if one of the states does not have it.
func changesOf(object string, old, next *State) string {
	if old == next {
		return ""
	}
	was := old.describe(object)
	if was == nil {
		return ""
	}
	is := next.describe(object)
	if is == nil {
		return ""
	}
	all := maps.Clone(was)
	maps.Copy(all, is)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var diff string
		if _, isList := all[name].([]string); isList {
			before, _ := was[name].([]string)
			now, _ := is[name].([]string)
			diff = difference(before, now)
		} else if before, now := textOf(was[name]), textOf(is[name]); before != now {
			diff = before + " -> " + now
		}
		if diff != "" {
			parts = append(parts, name+": "+diff)
		}
	}
	return terminal.Excerpt(strings.Join(parts, "; "), maxDetail)
}

// A description has the settings of an object, by name and without secrets. A value is a string or a list of
// strings.
type description map[string]any

// describe returns the description of a connected registry, a token, a scope map or an operator, such as
// "tokens/line1"; nil if there is none, and for other objects.
func (s *State) describe(object string) description {
	switch kind, name, _ := strings.Cut(object, "/"); kind {
	case KindRegistry:
		if r := s.Registry(name); r != nil {
			v := r.Settings.Spec
			v.Permissions, v.Gaps, v.Join = nil, nil, nil
			v.Epoch, v.Resync, v.Verify = 0, 0, 0 // other actions count these
			if t := s.Token(r.SyncToken); t != nil {
				v.Permissions = t.Actions
			}
			return describeJSON(v)
		}
	case KindToken:
		if t := s.Token(name); t != nil {
			return description{"scopeMap": t.ScopeMap, "status": t.Status, "passwords": describePasswords(t.Passwords)}
		}
	case KindScopeMap:
		if m := s.ScopeMap(name); m != nil {
			return description{"description": m.Description, "actions": m.Actions,
				"anonymousNetworks": m.AnonymousNetworks}
		}
	case KindOperator:
		if o := s.Operator(name); o != nil {
			return description{"role": o.Role, "repositories": o.Operator.Limits.Repositories,
				"labels": o.Operator.Limits.Labels}
		}
	}
	return nil
}

func describePasswords(all []metadb.Password) (texts []string) {
	for _, p := range all {
		text := p.Name + " of " + p.CreatedAt.UTC().Format(time.RFC3339)
		if !p.ExpiresAt.IsZero() {
			text += " until " + p.ExpiresAt.UTC().Format(time.RFC3339)
		}
		texts = append(texts, text)
	}
	return texts
}

// describeJSON returns the description of a value that is an object in JSON. The fields of an object in it
// are named after both.
func describeJSON(v any) description {
	text, err := json.Marshal(v)
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		return nil
	}
	d := description{}
	d.add("", fields)
	return d
}

func (d description) add(prefix string, fields map[string]any) {
	for name, v := range fields {
		switch v := v.(type) {
		case nil:
		case map[string]any:
			d.add(prefix+name+".", v)
		case []any:
			list := []string{}
			for _, one := range v {
				list = append(list, fmt.Sprint(one))
			}
			d[prefix+name] = list
		default:
			d[prefix+name] = fmt.Sprint(v)
		}
	}
}

func textOf(v any) string {
	if text, _ := v.(string); text != "" {
		return text
	}
	return "none"
}

// difference returns the items that a list has gained, with a plus sign, and lost, with a minus sign.
func difference(old, now []string) string {
	var parts []string
	for _, one := range now {
		if !slices.Contains(old, one) {
			parts = append(parts, "+"+one)
		}
	}
	for _, one := range old {
		if !slices.Contains(now, one) {
			parts = append(parts, "-"+one)
		}
	}
	if len(parts) == 0 && !slices.Equal(old, now) {
		return "in another order: " + strings.Join(now, ", ")
	}
	return strings.Join(parts, " ")
}
