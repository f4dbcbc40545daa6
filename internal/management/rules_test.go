package management

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"ferry/internal/events"
	"ferry/internal/mirror"
	"ferry/internal/retention"
	"ferry/internal/scrub"
)

// TestEveryOperationHasARule fails for a new operation until it says what it shows or changes.
func TestEveryOperationHasARule(t *testing.T) {
	served := map[string]bool{}
	h := newHandler(Options{
		Scrubber: (*scrub.Scrubber)(nil), Mirrors: (*mirror.Service)(nil), Events: &events.Service{},
		Purger: (*retention.Service)(nil),
	})
	for path, item := range h.huma.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPut: item.Put, http.MethodPost: item.Post,
			http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			if op == nil {
				continue
			}
			served[op.OperationID] = true
			reach, ok := rules[op.OperationID]
			if !ok {
				t.Errorf("%s %s (%s) has no rule", method, path, op.OperationID)
			}
			if _, about := nouns[reach]; about && !strings.Contains(path, "/"+string(reach)+"/{name}") {
				t.Errorf("%s %s does not name one of %s", method, path, reach)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(rules)) {
		if !served[id] {
			t.Errorf("there is a rule for %s, which is no operation", id)
		}
	}
}
