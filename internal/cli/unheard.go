package cli

import (
	"fmt"
	"strings"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

// mostUnheard is how many connected registries a line names.
const mostUnheard = 3

// noteUnheard says, to standard error, which connected registries have not heard
// of a write; nil is none.
func (e *Env) noteUnheard(u *api.Unheard) {
	if u == nil {
		return
	}
	var names []string
	for _, r := range u.Registries[:min(len(u.Registries), mostUnheard)] {
		when := "nobody knows when it is back"
		if r.ExpectedTime != nil {
			when = "expected at " + seconds(r.ExpectedTime)
		}
		names = append(names, fmt.Sprintf("%s (%s)", terminal.Printable(r.Name), when))
	}
	text := strings.Join(names, ", ")
	if more := u.Count - len(names); more > 0 {
		text += fmt.Sprintf(" and %s", counted(more, "other"))
	}
	what := "connected registries have"
	if u.Count == 1 {
		what = "connected registry has"
	}
	fmt.Fprintf(e.Stderr, "note: %d %s not heard of this yet: %s\n", u.Count, what, text)
}
