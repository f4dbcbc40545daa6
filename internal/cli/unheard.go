package cli

import (
	"fmt"
	"strings"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

// printWarnings writes to standard error what writes did not do, though it may be expected.
func (e *Env) printWarnings(all []api.Warning) {
	for _, w := range all {
		fmt.Fprintf(e.Stderr, "warning: %s\n", terminal.Printable(w.Message))
		if w.Hint != "" {
			fmt.Fprintf(e.Stderr, "hint: %s\n", terminal.Printable(w.Hint))
		}
	}
}

// maxUnheardNames bounds the number of names in a line.
const maxUnheardNames = 3

// printUnheard writes to standard error which connected registries have not received a
// change yet. u may be nil.
func (e *Env) printUnheard(u *api.Unheard) {
	if u == nil {
		return
	}
	var names []string
	for _, r := range u.Registries[:min(len(u.Registries), maxUnheardNames)] {
		when := "next connection unknown"
		if r.ExpectedTime != nil {
			when = "expected at " + timeText(r.ExpectedTime)
		}
		names = append(names, fmt.Sprintf("%s (%s)", terminal.Printable(r.Name), when))
	}
	text := strings.Join(names, ", ")
	if more := u.Count - len(names); more > 0 {
		text += fmt.Sprintf(" and %s", counted(more, "other"))
	}
	subject := "connected registries have"
	if u.Count == 1 {
		subject = "connected registry has"
	}
	fmt.Fprintf(e.Stderr, "note: %d %s not received this change yet: %s\n", u.Count, subject, text)
}
