package auth

import (
	"net/http"
	"slices"
	"strings"

	"ferry/internal/oci"
)

// A Scope is a resource and actions on it, in a token request or in a token, in the form of
// Docker's token authentication.
type Scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// Limits on a token request. Further scopes, such as those of a client that mirrors many
// repositories, are left out: the client asks again for a scope that it needs.
const (
	maxScopes       = 256
	maxScopeActions = 16
	maxScopeLength  = 1024
	// maxScopesLength bounds the total size of the scopes in a token, in bytes, so that the token
	// fits into a header.
	maxScopesLength = 20 << 10
)

// scopeActions maps the actions of a scope to actions of a scope map. "pull" includes the listing
// of tags, because clients list tags with that scope.
var scopeActions = map[string][]Action{
	"pull":           {ContentRead, MetadataRead},
	"push":           {ContentWrite, ContentRead, MetadataRead},
	"delete":         {ContentDelete},
	"metadata_read":  {MetadataRead},
	"metadata_write": {MetadataWrite},
	"*":              repositoryActions,
}

// parseScopes parses the scope parameters of a token request, such as
// "repository:team/app:pull,push". Each parameter may contain several scopes, separated by spaces.
// It leaves out unknown scopes, as the specification requires, and scopes beyond the first 256, or
// fewer if their names are long. A malformed scope is an error.
func parseScopes(params []string) ([]Scope, error) {
	var all []Scope
	length := 0
	for _, param := range params {
		for text := range strings.FieldsSeq(param) {
			s, known, err := parseScope(text)
			if err != nil {
				return nil, err
			}
			if !known {
				continue
			}
			length += len(text) + scopeFrame
			if len(all) == maxScopes || length > maxScopesLength {
				return all, nil
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// scopeFrame is the size of the JSON around a scope in a token, in bytes.
const scopeFrame = 50

func parseScope(text string) (s Scope, known bool, err error) {
	if len(text) > maxScopeLength {
		return Scope{}, false, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	end := strings.LastIndex(rest, ":")
	if end < 0 {
		return Scope{}, false, oci.ErrUnsupported.With("scope %.100q is malformed: want type:name:actions, "+
			"such as repository:team/app:pull", text).WithStatus(http.StatusBadRequest)
	}
	s = Scope{Type: kind, Name: rest[:end]}
	for action := range strings.SplitSeq(rest[end+1:], ",") {
		if action != "" && len(s.Actions) < maxScopeActions && !slices.Contains(s.Actions, action) {
			s.Actions = append(s.Actions, action)
		}
	}
	switch kind {
	case "repository":
		return s, oci.CheckRepository(s.Name) == nil, nil
	case "registry":
		return s, s.Name == "catalog", nil
	}
	return Scope{}, false, nil
}

// granted returns the part of the scope that the permissions allow. An action of the scope is
// allowed if its main action in scopeActions is.
func (s Scope) granted(p Permissions) Scope {
	g := Scope{Type: s.Type, Name: s.Name, Actions: []string{}}
	for _, action := range s.Actions {
		means := scopeActions[action]
		switch {
		case s.Type == "registry":
			g.Actions = append(g.Actions, action) // the catalog shows only what the principal may read
		case action == "*":
			for _, name := range []string{"pull", "push", "delete", "metadata_read", "metadata_write"} {
				if p.AllowsRepository(s.Name, scopeActions[name][0]) {
					g.Actions = append(g.Actions, name)
				}
			}
		case len(means) > 0 && p.AllowsRepository(s.Name, means[0]):
			g.Actions = append(g.Actions, action)
		}
	}
	return g
}

// allows reports whether the scope covers an action on a repository.
func (s Scope) allows(repository string, action Action) bool {
	if s.Type != "repository" || s.Name != repository {
		return false
	}
	return slices.ContainsFunc(s.Actions, func(name string) bool { return slices.Contains(scopeActions[name], action) })
}

// scopeFor returns the scope that a client needs for the accesses, for a challenge.
func scopeFor(need []Access) string {
	names := map[Action]string{
		ContentRead: "pull", ContentWrite: "push", ContentDelete: "delete",
		MetadataRead: "metadata_read", MetadataWrite: "metadata_write",
	}
	var repositories []string
	actions := map[string][]string{}
	for _, a := range need {
		if a.Repository == "" {
			continue
		}
		if _, ok := actions[a.Repository]; !ok {
			repositories = append(repositories, a.Repository)
		}
		name := names[a.Action]
		if !slices.Contains(actions[a.Repository], name) {
			actions[a.Repository] = append(actions[a.Repository], name)
		}
	}
	var scopes []string
	for _, r := range repositories {
		scopes = append(scopes, "repository:"+r+":"+strings.Join(actions[r], ","))
	}
	return strings.Join(scopes, " ")
}
