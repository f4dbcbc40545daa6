package mirror

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"ferry/internal/metadb"
)

// A Warning is a problem at a source that did not stop a run or an import. Everything
// else was synced, and nothing was removed because of it.
type Warning struct {
	Code    WarningCode `json:"code"`
	Message string      `json:"message"`
}

// A WarningCode is a kind of warning.
type WarningCode string

// The kinds of warnings.
const (
	// ReferrersUnavailable says that referrers could not be listed or fetched. Signatures
	// may be missing here.
	ReferrersUnavailable WarningCode = "ReferrersUnavailable"
	// InvalidTags says that the source lists names that are not valid tags.
	InvalidTags WarningCode = "InvalidTags"
)

// WarningsOf returns the warnings of a rule's last run.
func WarningsOf(rule metadb.MirrorRule) (all []Warning) {
	if json.Unmarshal(rule.Warnings, &all) != nil { // for example because the rule never ran
		return nil
	}
	return all
}

// warnings collects the warnings of one run or import, the first of each kind.
type warnings struct {
	mu  sync.Mutex
	all map[WarningCode]string
}

func (w *warnings) add(code WarningCode, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[WarningCode]string{}
	}
	if w.all[code] == "" {
		w.all[code] = message
	}
}

// text returns the warnings as JSON.
func (w *warnings) text() json.RawMessage {
	text, err := json.Marshal(w.list())
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return text
}

// list returns the warnings, sorted by code.
func (w *warnings) list() []Warning {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := []Warning{}
	for _, code := range slices.Sorted(maps.Keys(w.all)) {
		all = append(all, Warning{code, w.all[code]})
	}
	return all
}
