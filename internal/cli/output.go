package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jmespath-community/go-jmespath"
	"go.yaml.in/yaml/v4"

	"ferry/internal/terminal"
)

// asText reports whether the result is shown as sentences for people.
func (e *Env) asText() bool { return e.output == "text" && e.query.search == nil }

// say prints sentences for people. They may contain text from other machines.
func (e *Env) say(text string) { fmt.Fprintln(e.Stdout, terminal.PrintableLines(text)) }

// print shows a result in the form that --output and --query ask for. A table has those
// members of the result that are neither objects nor arrays.
func (e *Env) print(result any) error {
	value, err := plain(result)
	if err != nil {
		return err
	}
	if e.query.search != nil {
		if value, err = e.query.run(value); err != nil {
			return withHint(err, ranAnyway)
		}
		if e.file.open() && isEmpty(value) {
			return withHint(
				fmt.Errorf("--query %s finds nothing, so %s was not written", clip(e.query.text), clip(e.file.path)),
				ranAnyway)
		}
	}
	switch e.output {
	case "table":
		return writePlainTable(e.Stdout, value)
	case "tsv":
		return writeTSV(e.Stdout, value)
	case "yaml":
		text, err := yaml.Dump(wholeNumbers(value))
		if err != nil {
			return fmt.Errorf("write yaml: %w", err)
		}
		if terminal.HasControl(text) {
			return writeJSON(e.Stdout, value) // JSON is YAML, too, and can escape such characters
		}
		_, err = e.Stdout.Write(text)
		return err
	}
	return writeJSON(e.Stdout, value)
}

// ranAnyway is the hint after a query that failed on the result of a command.
const ranAnyway = "the command itself was run; if it made passwords, make new ones, with a query that finds them"

// A query is a JMESPath expression that selects a part of a result. The zero query selects
// all of it.
type query struct {
	text   string
	search jmespath.JMESPath
}

// parse sets the query. It runs before the command does, because a command may make
// passwords that are shown only once.
func (q *query) parse(text string) (err error) {
	if text == "" {
		return errEmpty
	}
	if q.search, err = jmespath.Compile(text); err == nil {
		q.text = text
		return nil
	}
	hint := "see https://jmespath.org for the language"
	if strings.Contains(text, "`") {
		hint = "text stands in single quotes, such as in \"[?name=='ship1']\"; backticks are for JSON"
	}
	return withHint(usagef("--query %s is not JMESPath: %v", clip(text), err), "%s", hint)
}

// run returns the selected part of a plain value.
func (q *query) run(value any) (any, error) {
	found, err := q.search.Search(value)
	if err != nil {
		return nil, fmt.Errorf("--query %s fails on the result: %w", clip(q.text), err)
	}
	return plain(found) // the search may return its own types
}

// isEmpty reports whether a plain value is empty: null, "", or made of such values only.
func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return !slices.ContainsFunc(v, isNotEmpty)
	case map[string]any:
		return !slices.ContainsFunc(slices.Collect(maps.Values(v)), isNotEmpty)
	}
	return false
}

func isNotEmpty(v any) bool { return !isEmpty(v) }

// plain turns a value into the types of decoded JSON: maps, slices, strings, numbers,
// booleans and nil.
func plain(v any) (p any, err error) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

// wholeNumbers turns the whole numbers of a plain value into integers. YAML would write
// them with an exponent otherwise.
func wholeNumbers(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int64(v); float64(n) == v && max(n, -n) < 1<<53 { // above that, floats skip integers
			return n
		}
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = wholeNumbers(v[name])
		}
	}
	return v
}

// writeJSON writes v like the reference: members in alphabetical order, indented by two
// spaces.
func writeJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(terminal.Escape(text.Bytes()))
	return err
}

// writeTSV writes a line for each element of value, or for value itself. The members are
// in alphabetical order, with tabs between them. As in the reference, null is the word
// None, and a nested array or object is the number of its members.
func writeTSV(w io.Writer, value any) error {
	rows, ok := value.([]any)
	if !ok {
		rows = []any{value}
	}
	var text strings.Builder
	for _, row := range rows {
		var cells []string
		switch row := row.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(row)) {
				cells = append(cells, tsvCell(row[name]))
			}
		case []any:
			for _, v := range row {
				cells = append(cells, tsvCell(v))
			}
		default:
			cells = []string{tsvCell(row)}
		}
		text.WriteString(strings.Join(cells, "\t") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func tsvCell(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case map[string]any:
		return fmt.Sprint(len(v))
	case []any:
		return fmt.Sprint(len(v))
	}
	return terminal.Printable(cell(v))
}
