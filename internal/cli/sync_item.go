package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// A syncListing lists the items of a site below what is said of them all. On
// a terminal it has only what is open, unless --open=false is given: of a
// site with thousands of tags nobody could read the rest.
type syncListing struct {
	env  *Env
	cmd  *cobra.Command
	open bool
}

// syncListing defines --output and --open of a command that lists items.
func (e *Env) syncListing(cmd *cobra.Command) *syncListing {
	l := &syncListing{env: e, cmd: cmd}
	e.saysText(cmd)
	cmd.Flags().BoolVar(&l.open, "open", false, "only what is not in sync; so it is on a terminal unless --open=false")
	return l
}

// brief reports whether the listing leaves out what nobody asked it to.
func (l *syncListing) brief() bool {
	return l.env.asText() && isTerminal(l.env.Stdout) && !l.cmd.Flags().Changed("open")
}

func (l *syncListing) onlyOpen() bool { return l.open || l.brief() }

// show shows items in the form that was asked for: in sentences below text,
// in a table alone, else as a member of status. synced is how many items
// there are that are in sync.
func (l *syncListing) show(text string, status map[string]any, items []any, synced any) error {
	switch {
	case l.env.output.value == "table" && l.env.query == "":
		return l.env.print(items, syncItemColumns(items))
	case !l.env.asText():
		status["items"] = items
		return l.env.print(status, nil)
	}
	if n := number(synced); n > 0 && l.brief() {
		text += fmt.Sprintf("\nNot listed: %s in sync; --open=false lists them, too.", counted(n, "item"))
	}
	if len(items) > 0 {
		text += "\n"
	}
	fmt.Fprintln(l.env.Stdout, text)
	return writeTable(l.env.Stdout, items, syncItemColumns(items))
}

// syncItemColumns are the columns for items; how far one is has columns where
// one of them is on its way.
func syncItemColumns(items []any) []column {
	columns := []column{
		{title: "REPOSITORY", path: "repository"},
		{title: "TAG", path: "tag"},
		{title: "STATE", path: "state"},
	}
	if slices.ContainsFunc(items, func(v any) bool { return number(member(v, "bytesTotal")) > 0 }) {
		columns = append(columns,
			column{title: "DONE", show: doneOf, spare: 5},
			column{title: "RATE", path: "bytesPerSecond", show: rateOf, spare: 4},
			column{title: "LEFT", path: "etaSeconds", show: leftOf, spare: 6})
	}
	return append(columns,
		column{title: "HERE", path: "digest", show: shortDigest, spare: 1},
		column{title: "PARENT", path: "parentDigest", show: shortDigest, spare: 2},
		column{title: "LAST MATCH (UTC)", path: "lastMatchTime", show: seconds, spare: 3},
		column{title: "ERROR", path: "error", cut: true})
}

// doneOf is how much of an item is here.
func doneOf(item any) string {
	total := number(member(item, "bytesTotal"))
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%s of %s", size(number(member(item, "bytesDone"))), size(total))
}

// rateOf is a number of bytes a second, where there are any.
func rateOf(v any) string {
	if number(v) == 0 {
		return ""
	}
	return size(number(v)) + "/s"
}

// leftOf is a number of seconds, where it is known.
func leftOf(v any) string {
	if v == nil {
		return ""
	}
	return (time.Duration(number(v)) * time.Second).String()
}

// shortDigest is a column's value for a digest: enough to tell two apart.
func shortDigest(v any) string {
	algorithm, hex, ok := strings.Cut(cell(v), ":")
	if !ok {
		return cell(v)
	}
	return algorithm + ":" + hex[:min(len(hex), 12)]
}
